"""Targets on constrained supports. Outside, where a density has no meaning, they are −inf."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from flowvi.inference.supports import Support, correlation_cholesky, interval, ordered, positive, real, simplex
from flowvi.inference.targets.tails import gamma_draws
from flowvi.inference.targets.target import Difficulty, Target

__all__ = ["beta", "conjugate_normal", "dirichlet", "gamma", "inside", "lkj", "order_statistics"]

Points = dict[str, Tensor]

_BOUNDED = frozenset({Difficulty.BOUNDED})


def inside(supports: Mapping[str, Support], points: Points, log_density: Tensor) -> Tensor:
    """The log density (n,) where every parameter is inside its support, −inf elsewhere.

    Example:
        >>> inside({"y": positive()}, {"y": torch.tensor([1.0, -1.0])}, torch.zeros(2))
        tensor([0., -inf])
    """
    for name, support in supports.items():
        log_density = torch.where(support.contains(points[name]), log_density, -math.inf)
    return log_density


def beta(a: float, b: float, shift: float) -> Target:
    """exp(shift) (y + 1)^(a−1) (2 − y)^(b−1) on the interval (−1, 2): y = 3x − 1, x ~ Beta(a, b).

    ln Z = shift + (a + b − 1) ln 3 + ln Γ(a) + ln Γ(b) − ln Γ(a + b).

    Example:
        >>> beta(2.0, 5.0, 0.0).log_density({"y": torch.tensor([1.0, 3.0])})
        tensor([0.6931,   -inf])
    """
    supports = {"y": interval(-1, 2)}

    def log_density(points: Points) -> Tensor:
        y = points["y"]
        return inside(supports, points, shift + (a - 1) * (y + 1).log() + (b - 1) * (2 - y).log())

    def sample(n: int, generator: Generator | None = None) -> Points:
        first, second = gamma_draws(a, (n,), generator), gamma_draws(b, (n,), generator)
        return {"y": 3 * first / (first + second) - 1}

    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return Target(
        name=f"beta_{a:g}_{b:g}",
        about=f"Beta({a:g}, {b:g}), stretched to (−1, 2)",
        dim=1,
        log_density=log_density,
        log_z=shift + (a + b - 1) * math.log(3) + log_beta,
        truth="closed form",
        sample=sample,
        supports=supports,
        difficulty=_BOUNDED,
    )


def gamma(shape: float, rate: float, shift: float) -> Target:
    """exp(shift) ∏ yᵢ^(a−1) exp(−b yᵢ), two of them. ln Z = shift + 2 (ln Γ(a) − a ln b).

    Example:
        >>> gamma(2.5, 1.0, 0.0).log_density({"y": torch.tensor([[1.0, 1.0], [-1.0, 1.0]])})
        tensor([-2., -inf])
    """
    supports = {"y": positive(2)}

    def log_density(points: Points) -> Tensor:
        y = points["y"]
        return inside(supports, points, shift + ((shape - 1) * y.log() - rate * y).sum(-1))

    def sample(n: int, generator: Generator | None = None) -> Points:
        return {"y": gamma_draws(shape, (n, 2), generator) / rate}

    return Target(
        name=f"gamma_{shape:g}",
        about=f"Two Gamma({shape:g}, rate {rate:g}) variables",
        dim=2,
        log_density=log_density,
        log_z=shift + 2 * (math.lgamma(shape) - shape * math.log(rate)),
        truth="closed form",
        sample=sample,
        supports=supports,
        difficulty=_BOUNDED | {Difficulty.SKEWED},
    )


def dirichlet(concentration: tuple[float, ...], shift: float) -> Target:
    """exp(shift) ∏ yᵢ^(aᵢ−1) on the simplex. ln Z = shift + Σ ln Γ(aᵢ) − ln Γ(Σ aᵢ).

    Example:
        >>> dirichlet((1.0, 2.0, 3.0), 0.0).dim
        2
    """
    count = len(concentration)
    supports = {"y": simplex(count)}

    def log_density(points: Points) -> Tensor:
        y = points["y"]
        powers = y.new_tensor(concentration) - 1
        return inside(supports, points, shift + (powers * y.log()).sum(-1))

    def sample(n: int, generator: Generator | None = None) -> Points:
        draws = torch.stack([gamma_draws(a, (n,), generator) for a in concentration], -1)
        return {"y": draws / draws.sum(-1, keepdim=True)}

    return Target(
        name=f"dirichlet_{count}",
        about=f"Dirichlet({', '.join(f'{a:g}' for a in concentration)})",
        dim=count - 1,
        log_density=log_density,
        log_z=shift + sum(map(math.lgamma, concentration)) - math.lgamma(sum(concentration)),
        truth="closed form",
        sample=sample,
        supports=supports,
        difficulty=_BOUNDED,
    )


def lkj(n: int, eta: float, shift: float) -> Target:
    """Cholesky factors L of correlation matrices, exp(shift) ∏ᵢ Lᵢᵢ^(n−i+2η−2), i = 2 … n: |L Lᵀ|^(η−1) of them.

    The rows are independent: row i has m = i − 1 free entries in the unit ball, of density (1 − r²)^(p/2) with
    p = n − i + 2η − 2, so that r² ~ Beta(m/2, p/2 + 1) in a uniform direction, and
    ln Z = shift + Σᵢ (m/2) ln π + ln Γ(p/2 + 1) − ln Γ((m + p)/2 + 1) (Lewandowski, Kurowicka & Joe 2009).

    Example:
        >>> lkj(3, 2.0, 0.0).log_density({"factor": torch.eye(3)[None]})
        tensor([0.])
    """
    supports = {"factor": correlation_cholesky(n)}
    powers = [n - i + 2 * eta - 2 for i in range(2, n + 1)]

    def log_density(points: Points) -> Tensor:
        diagonal = points["factor"].diagonal(dim1=-2, dim2=-1)[..., 1:]
        return inside(supports, points, shift + (diagonal.new_tensor(powers) * diagonal.log()).sum(-1))

    def sample(draws: int, generator: Generator | None = None) -> Points:
        factor = torch.zeros(draws, n, n, dtype=torch.float64)
        factor[:, 0, 0] = 1
        for m, power in enumerate(powers, 1):
            direction = torch.randn(draws, m, generator=generator, dtype=torch.float64)
            direction = direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
            within = gamma_draws(m / 2, (draws,), generator)
            rest = gamma_draws(power / 2 + 1, (draws,), generator)
            factor[:, m, :m] = direction * (within / (within + rest)).sqrt()[:, None]
            factor[:, m, m] = (rest / (within + rest)).sqrt()
        return {"factor": factor}

    terms = [m / 2 * math.log(math.pi) + math.lgamma(p / 2 + 1) - math.lgamma((m + p) / 2 + 1)
             for m, p in enumerate(powers, 1)]  # fmt: skip
    return Target(
        name=f"lkj_{n}",
        about=f"Correlation matrices {n}×{n}, LKJ with η = {eta:g} (Lewandowski, Kurowicka & Joe 2009)",
        dim=n * (n - 1) // 2,
        log_density=log_density,
        log_z=shift + sum(terms),
        truth="closed form",
        sample=sample,
        supports=supports,
        difficulty=_BOUNDED,
    )


def order_statistics(n: int, shift: float) -> Target:
    """n standard normal variables in increasing order, exp(shift − ½ |y|²). ln Z = shift + ½ n ln 2π − ln n!.

    Example:
        >>> order_statistics(2, 0.0).log_density({"y": torch.tensor([[0.0, 1.0], [1.0, 0.0]])})
        tensor([-0.5000,    -inf])
    """
    supports = {"y": ordered(n)}

    def sample(draws: int, generator: Generator | None = None) -> Points:
        return {"y": torch.randn(draws, n, generator=generator, dtype=torch.float64).sort(-1).values}

    return Target(
        name=f"ordered_{n}",
        about=f"The order statistics of {n} standard normal variables",
        dim=n,
        log_density=lambda points: inside(supports, points, shift - points["y"].square().sum(-1) / 2),
        log_z=shift + n / 2 * math.log(2 * math.pi) - math.lgamma(n + 1),
        truth="closed form",
        sample=sample,
        supports=supports,
        difficulty=_BOUNDED,
    )


def conjugate_normal(shift: float) -> Target:
    """The mean and variance of seven normal numbers, under the conjugate prior; all densities normalised.

    y ~ N(μ, σ²), μ ~ N(0, σ²/k), σ² ~ InverseGamma(a, b), k = ½, a = 2, b = 3. With k' = k + n, m' = Σy/k',
    a' = a + n/2, b' = b + ½ (Σy² − k'm'²):  ln Z = shift − ½ n ln 2π + ½ ln k/k' + ln Γ(a')/Γ(a) + a ln b − a' ln b';
    σ² ~ InverseGamma(a', b') and μ ~ N(m', σ²/k') (Murphy 2007, Section 3).

    Example:
        >>> sorted(conjugate_normal(0.0).supports)
        ['mean', 'variance']
    """
    data = torch.tensor([4.1, 1.3, 2.9, 3.6, 0.2, 5.4, 2.2], dtype=torch.float64)
    supports = {"mean": real(), "variance": positive()}
    n, k, a, b = len(data), 0.5, 2.0, 3.0
    k_n, a_n = k + n, a + n / 2
    m_n = data.sum().item() / k_n
    b_n = b + (data.square().sum().item() - k_n * m_n**2) / 2
    constant = shift - (n + 1) / 2 * math.log(2 * math.pi) + math.log(k) / 2 + a * math.log(b) - math.lgamma(a)

    def log_density(points: Points) -> Tensor:
        mean, variance = points["mean"], points["variance"]
        squares = (data.to(mean) - mean[..., None]).square().sum(-1) + k * mean.square() + 2 * b
        log_p = constant - ((n + 1) / 2 + a + 1) * variance.log() - squares / (2 * variance)
        return inside(supports, points, log_p)

    def sample(draws: int, generator: Generator | None = None) -> Points:
        variance = b_n / gamma_draws(a_n, (draws,), generator)
        white = torch.randn(draws, generator=generator, dtype=torch.float64)
        return {"mean": m_n + (variance / k_n).sqrt() * white, "variance": variance}

    evidence = math.log(k / k_n) / 2 + math.lgamma(a_n) - math.lgamma(a) + a * math.log(b) - a_n * math.log(b_n)
    return Target(
        name="conjugate_normal",
        about="The mean and variance of seven normal numbers, normal-inverse-gamma prior (Murphy 2007)",
        dim=2,
        log_density=log_density,
        log_z=shift - n / 2 * math.log(2 * math.pi) + evidence,
        truth="closed form",
        sample=sample,
        supports=supports,
        difficulty=_BOUNDED | {Difficulty.SKEWED},
    )
