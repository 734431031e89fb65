"""Targets with jumps, and with regions of the plane where they are −inf or NaN; none declares a support."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from flowvi.inference.targets.tails import gamma_draws
from flowvi.inference.targets.target import Difficulty, Target

__all__ = ["annulus", "half_gaussian", "nan_disc", "nan_gamma", "staircase", "step"]

_LN_2PI = math.log(2 * math.pi)


def step(shift: float) -> Target:
    """A round Gaussian, four times as dense where x₁ > ½. ln Z = shift + ln 2π + ln(Φ(½) + 4 Φ(−½)).

    Example:
        >>> step(0.0).log_density(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        tensor([0.0000, 0.8863])
    """
    edge, height = 0.5, 4.0
    low, high = _below(edge), height * _below(-edge)

    def log_density(x: Tensor) -> Tensor:
        return shift - x.square().sum(-1) / 2 + torch.where(x[..., 0] > edge, math.log(height), 0.0)

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        u = (low + high) * torch.rand(n, generator=generator, dtype=torch.float64)
        first = torch.special.ndtri(torch.where(u < low, u, low + (u - low) / height))
        return torch.stack([first, torch.randn(n, generator=generator, dtype=torch.float64)], -1)

    log_z = shift + _LN_2PI + math.log(low + high)
    return _planar("jump_step", "A Gaussian with a step across it", log_density, log_z, sample, Difficulty.JUMP)


def staircase(shift: float) -> Target:
    """exp(shift − ⌊|x₁|⌋ − ⌊|x₂|⌋), whose gradient is 0 everywhere. ln Z = shift + 2 ln(2/(1 − 1/e)).

    Example:
        >>> staircase(0.0).log_density(torch.tensor([[0.5, -1.5]]))
        tensor([-1.])
    """

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        u, v, sign = torch.rand(3, n, 2, generator=generator, dtype=torch.float64)
        size: Tensor = (-torch.log1p(-u)).floor() + v
        return size.copysign(sign - 0.5)

    return _planar(
        "jump_staircase",
        "Steps down from the centre, flat in between",
        lambda x: shift - x.abs().floor().sum(-1),
        shift + 2 * math.log(2 / (1 - math.exp(-1))),
        sample,
        Difficulty.JUMP,
    )


def half_gaussian(shift: float) -> Target:
    """A round Gaussian, −inf where x₁ < −½. ln Z = shift + ln 2π + ln Φ(½).

    Example:
        >>> half_gaussian(0.0).log_density(torch.tensor([[0.0, 0.0], [-1.0, 0.0]]))
        tensor([0., -inf])
    """
    edge = -0.5

    def log_density(x: Tensor) -> Tensor:
        return torch.where(x[..., 0] < edge, -math.inf, shift - x.square().sum(-1) / 2)

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        u = 1 - torch.rand(n, generator=generator, dtype=torch.float64)
        first = -torch.special.ndtri(u * _below(-edge))
        return torch.stack([first, torch.randn(n, generator=generator, dtype=torch.float64)], -1)

    log_z = shift + _LN_2PI + math.log(_below(-edge))
    about = "A Gaussian cut off along a line"
    return _planar("cut_gaussian", about, log_density, log_z, sample, Difficulty.JUMP, Difficulty.MINUS_INF)


def annulus(shift: float) -> Target:
    """A round Gaussian, −inf but where 1 < |x| < 3. ln Z = shift + ln 2π + ln(exp(−1/2) − exp(−9/2)).

    Example:
        >>> annulus(0.0).log_density(torch.tensor([[0.0, 0.0], [-2.0, 0.0]]))
        tensor([-inf, -2.])
    """
    inner, outer = math.exp(-0.5), math.exp(-4.5)

    def log_density(x: Tensor) -> Tensor:
        squares = x.square().sum(-1)
        return torch.where((squares > 1) & (squares < 9), shift - squares / 2, -math.inf)

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        u, turn = torch.rand(2, n, generator=generator, dtype=torch.float64)
        return _polar((-2 * (inner + u * (outer - inner)).log()).sqrt(), turn)

    log_z = shift + _LN_2PI + math.log(inner - outer)
    about = "A Gaussian cut off inside and outside a ring"
    return _planar("cut_annulus", about, log_density, log_z, sample, Difficulty.JUMP, Difficulty.MINUS_INF)


def nan_gamma(shift: float) -> Target:
    """Two Gamma(2.5) variables whose support the user forgot: the logarithm is NaN where a coordinate is below 0.

    exp(shift) ∏ xᵢ^1.5 exp(−xᵢ). ln Z = shift + 2 ln Γ(2.5), of where it is a number.

    Example:
        >>> nan_gamma(0.0).log_density(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
        tensor([-2., nan])
    """

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        return gamma_draws(2.5, (n, 2), generator)

    return _planar(
        "nan_gamma",
        "Two Gamma variables without their support",
        lambda x: shift + (1.5 * x.log() - x).sum(-1),
        shift + 2 * math.lgamma(2.5),
        sample,
        Difficulty.NAN,
        undefined=lambda x: (x < 0).any(-1),
    )


def nan_disc(shift: float) -> Target:
    """exp(shift) √(1 − |x|²), the square root written as half a logarithm: NaN outside the unit disc.

    ln Z = shift + ln(2π/3); 1 − |x|² is a uniform number to the power 2/3.

    Example:
        >>> nan_disc(0.0).log_density(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        tensor([0., nan])
    """

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        u, turn = torch.rand(2, n, generator=generator, dtype=torch.float64)
        return _polar((1 - u ** (2 / 3)).sqrt(), turn)

    return _planar(
        "nan_disc",
        "A hemisphere over the unit disc, without its support",
        lambda x: shift + (1 - x.square().sum(-1)).log() / 2,
        shift + math.log(2 * math.pi / 3),
        sample,
        Difficulty.NAN,
        Difficulty.LIGHT,
        undefined=lambda x: x.square().sum(-1) > 1,
    )


def _planar(
    name: str, about: str, log_density: Callable[[Tensor], Tensor], log_z: float,
    sample: Callable[[int, Generator | None], Tensor], *difficulty: Difficulty,
    undefined: Callable[[Tensor], Tensor] | None = None,
) -> Target:  # fmt: skip
    return Target(
        name=name,
        about=about,
        dim=2,
        log_density=log_density,
        log_z=log_z,
        truth="closed form",
        sample=sample,
        undefined=undefined,
        difficulty=frozenset(difficulty),
    )


def _below(x: float) -> float:
    """Φ(x), of the standard normal distribution."""
    return math.erfc(-x / math.sqrt(2)) / 2


def _polar(r: Tensor, turn: Tensor) -> Tensor:
    """Points (n, 2) at a distance r and a share `turn` of the full angle, (n,) each."""
    return torch.stack([r * (2 * math.pi * turn).cos(), r * (2 * math.pi * turn).sin()], -1)
