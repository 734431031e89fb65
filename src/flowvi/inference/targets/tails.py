"""Targets with tails heavier or lighter than a Gaussian's, and skewed ones."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from flowvi.inference.targets.rotations import rotation
from flowvi.inference.targets.target import Difficulty, Target

__all__ = ["gamma_draws", "log_gamma", "quartic", "skew_normal", "student"]


def gamma_draws(shape: float, size: tuple[int, ...], generator: Generator | None = None) -> Tensor:
    """Draws of Gamma(shape, rate 1), float64, of any size; torch's own distribution takes no generator.

    Example:
        >>> gamma_draws(2.0, (3, 4)).shape
        torch.Size([3, 4])
    """
    draws: Tensor = torch._standard_gamma(torch.full(size, shape, dtype=torch.float64), generator=generator)
    return draws


def student(dim: int, shift: float) -> Target:
    """Student's t with ν = 2.5 degrees of freedom: exp(shift) (1 + q/ν)^(−(ν + D)/2), not normalised.

    q = |Rᵀ(x − 1)/s|², with a rotation R and scales s from ½ to 2.
    ln Z = shift + ln Γ(ν/2) − ln Γ((ν + D)/2) + ½ D ln νπ + Σ ln s (Kotz & Nadarajah 2004, Section 1.1).

    Example:
        >>> student(1, 0.0).log_density(torch.tensor([[1.0]]))
        tensor([0.])
    """
    nu = 2.5
    scale = 2 ** torch.linspace(-1, 1, dim, dtype=torch.float64)
    turn = rotation(dim)

    def log_density(x: Tensor) -> Tensor:
        squares = ((x - 1) @ turn.to(x) / scale.to(x)).square().sum(-1)
        return shift - (nu + dim) / 2 * (squares / nu).log1p()

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        white = torch.randn(n, dim, generator=generator, dtype=torch.float64)
        chi_square = 2 * gamma_draws(nu / 2, (n, 1), generator)
        return 1 + (scale * white * (nu / chi_square).sqrt()) @ turn.T

    log_gammas = math.lgamma(nu / 2) - math.lgamma((nu + dim) / 2)
    return Target(
        name=f"student_{dim}",
        about=f"Student's t with 2.5 degrees of freedom, D = {dim}, rotated",
        dim=dim,
        log_density=log_density,
        log_z=shift + log_gammas + dim / 2 * math.log(nu * math.pi) + scale.log().sum().item(),
        truth="closed form",
        sample=sample,
        difficulty=frozenset({Difficulty.HEAVY, *([Difficulty.DIMENSION] if dim >= 10 else [])}),
    )


def quartic(dim: int, shift: float) -> Target:
    """exp(shift − Σ xᵢ⁴): |x| = G^¼ with G ~ Gamma(¼). ln Z = shift + D ln(Γ(¼)/2).

    Example:
        >>> quartic(2, 0.0).log_density(torch.tensor([[1.0, 2.0]]))
        tensor([-17.])
    """

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        sign = torch.rand(n, dim, generator=generator, dtype=torch.float64) - 0.5
        return gamma_draws(0.25, (n, dim), generator) ** 0.25 * sign.sign()

    return Target(
        name=f"quartic_{dim}",
        about=f"The fourth power in the exponent, D = {dim}",
        dim=dim,
        log_density=lambda x: shift - x.square().square().sum(-1),
        log_z=shift + dim * (math.lgamma(0.25) - math.log(2)),
        truth="closed form",
        sample=sample,
        difficulty=frozenset({Difficulty.LIGHT, *([Difficulty.DIMENSION] if dim >= 10 else [])}),
    )


def log_gamma(shift: float) -> Target:
    """The logarithms of two Gamma variables: exp(shift + Σ aᵢ xᵢ − exp xᵢ), a = (0.7, 2). ln Z = shift + Σ ln Γ(aᵢ).

    Its left tail falls off as exp(a x), its right as exp(−exp x).

    Example:
        >>> log_gamma(0.0).log_density(torch.zeros(1, 2))
        tensor([-2.])
    """
    shapes = (0.7, 2.0)

    def log_density(x: Tensor) -> Tensor:
        return shift + (x * x.new_tensor(shapes) - x.exp()).sum(-1)

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        # ln G(a) = ln G(a + 1) + ln(U)/a, which no small draw underflows (Marsaglia & Tsang 2000, Section 6).
        more = [gamma_draws(a + 1, (n,), generator).log() for a in shapes]
        log_u = torch.rand(n, len(shapes), generator=generator, dtype=torch.float64).log()
        return torch.stack(more, -1) + log_u / log_u.new_tensor(shapes)

    return Target(
        name="log_gamma",
        about="The logarithms of two Gamma variables",
        dim=2,
        log_density=log_density,
        log_z=shift + sum(map(math.lgamma, shapes)),
        truth="closed form",
        sample=sample,
        difficulty=frozenset({Difficulty.SKEWED}),
    )


def skew_normal(dim: int, shift: float) -> Target:
    """exp(shift − ½ |x|²) Φ(αᵀx) (Azzalini & Dalla Valle 1996), α from −3 to 5. ln Z = shift + ½ D ln 2π − ln 2.

    By their construction: x ~ N(0, I) and u ~ N(0, 1); x is kept where u < αᵀx, −x taken elsewhere.

    Example:
        >>> skew_normal(10, 0.0).log_density(torch.zeros(1, 10))
        tensor([-0.6931])
    """
    alpha = torch.linspace(-3, 5, dim, dtype=torch.float64)

    def log_density(x: Tensor) -> Tensor:
        tilt: Tensor = torch.special.log_ndtr(x @ alpha.to(x))
        return shift - x.square().sum(-1) / 2 + tilt

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
        u = torch.randn(n, generator=generator, dtype=torch.float64)
        return torch.where((u < x @ alpha)[:, None], x, -x)

    return Target(
        name=f"skew_normal_{dim}",
        about=f"The multivariate skew normal of Azzalini & Dalla Valle (1996), D = {dim}",
        dim=dim,
        log_density=log_density,
        log_z=shift + dim / 2 * math.log(2 * math.pi) - math.log(2),
        truth="closed form",
        sample=sample,
        difficulty=frozenset({Difficulty.SKEWED, *([Difficulty.DIMENSION] if dim >= 10 else [])}),
    )
