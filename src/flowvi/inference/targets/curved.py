"""Targets whose mass lies along a curve, or changes its width from place to place."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from flowvi.inference.targets.target import Difficulty, Target

__all__ = ["banana", "funnel", "ring", "rosenbrock"]

_LN_2PI = math.log(2 * math.pi)


def funnel(dim: int, shift: float) -> Target:
    """Neal's funnel (2003, Slice sampling, Section 8): v ~ N(0, 3²), xᵢ ~ N(0, exp v), z = (v, x).

    Normalised, but for the shift: ln Z = shift.

    Example:
        >>> funnel(10, 0.0).name
        'funnel_10'
    """
    constant = shift - dim / 2 * _LN_2PI - math.log(3)

    def log_density(z: Tensor) -> Tensor:
        v, x = z[..., :1], z[..., 1:]
        # x² exp(−v), through the logarithm: 0 · inf at x = 0 would be NaN.
        nought = x == 0
        squares = (2 * torch.where(nought, 1, x).abs().log() - v).exp()
        squares = torch.where(nought, 0, squares).sum(-1)
        v = v[..., 0]
        return constant - v.square() / 18 - (dim - 1) / 2 * v - squares / 2

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        white = torch.randn(n, dim, generator=generator, dtype=torch.float64)
        v = 3 * white[:, :1]
        return torch.cat([v, (v / 2).exp() * white[:, 1:]], -1)

    trouble = {Difficulty.CURVED, Difficulty.SCALE}
    return Target(
        name=f"funnel_{dim}",
        about=f"Neal's funnel (2003), D = {dim}",
        dim=dim,
        log_density=log_density,
        log_z=shift,
        truth="closed form",
        sample=sample,
        difficulty=frozenset(trouble | ({Difficulty.DIMENSION} if dim >= 10 else set())),
    )


def banana(shift: float) -> Target:
    """x₁ ~ N(0, 10²), x₂ ~ N(0.03 x₁² − 3, 1) (Haario, Saksman & Tamminen 1999), not normalised.

    ln Z = shift + ln 2π + ln 10.

    Example:
        >>> banana(0.0).log_density(torch.tensor([[0.0, -3.0]]))
        tensor([0.])
    """

    def log_density(x: Tensor) -> Tensor:
        first, second = x[..., 0], x[..., 1]
        return shift - first.square() / 200 - (second - 0.03 * first.square() + 3).square() / 2

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        white = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        first = 10 * white[:, 0]
        return torch.stack([first, white[:, 1] + 0.03 * first.square() - 3], -1)

    return Target(
        name="banana",
        about="The twisted Gaussian of Haario, Saksman & Tamminen (1999)",
        dim=2,
        log_density=log_density,
        log_z=shift + _LN_2PI + math.log(10),
        truth="closed form",
        sample=sample,
        difficulty=frozenset({Difficulty.CURVED, Difficulty.SCALE}),
    )


def rosenbrock(width: int, blocks: int, shift: float) -> Target:
    """The hybrid Rosenbrock density of Pagani, Wiegand & Nadarajah (2022), not normalised.

    exp(shift − a (x₁ − 1)² − b Σⱼ Σᵢ (xⱼᵢ − xⱼ,ᵢ₋₁²)²), a = 1/20, b = 5, with j over `blocks` chains of `width` that
    all start at xⱼ₁ = x₁: D = 1 + blocks·(width − 1). A product of conditional Gaussians, so that
    ln Z = shift + ½ ln(π/a) + ½ (D − 1) ln(π/b).

    Example:
        >>> rosenbrock(3, 2, 0.0).dim
        5
    """
    a, b, dim = 1 / 20, 5.0, 1 + blocks * (width - 1)

    def log_density(x: Tensor) -> Tensor:
        first, chains = x[..., :1], x[..., 1:].unflatten(-1, (blocks, width - 1))
        before = torch.cat([first[..., None, :].expand(*chains.shape[:-1], 1), chains[..., :-1]], -1)
        misfit = (chains - before.square()).square().sum((-2, -1))
        log_p: Tensor = shift - a * (first[..., 0] - 1).square() - b * misfit
        return log_p

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        white = torch.randn(n, dim, generator=generator, dtype=torch.float64)
        first = 1 + white[:, :1] / math.sqrt(2 * a)
        noise = white[:, 1:].unflatten(-1, (blocks, width - 1)) / math.sqrt(2 * b)
        values = [first.expand(n, blocks)]
        for i in range(width - 1):
            values.append(values[-1].square() + noise[..., i])
        return torch.cat([first, torch.stack(values[1:], -1).flatten(1)], -1)

    return Target(
        name=f"rosenbrock_{dim}",
        about=f"The hybrid Rosenbrock density of Pagani, Wiegand & Nadarajah (2022), D = {dim}",
        dim=dim,
        log_density=log_density,
        log_z=shift + math.log(math.pi / a) / 2 + (dim - 1) / 2 * math.log(math.pi / b),
        truth="closed form",
        sample=sample,
        difficulty=frozenset({Difficulty.CURVED, Difficulty.SCALE}),
    )


def ring(radius: float, width: float, shift: float) -> Target:
    """exp(shift − (|x| − R)²/2w²) in the plane.

    ln Z = shift + ln 2π + ln ∫ r exp(−(r − R)²/2w²) dr, the integral over r > 0 being
    w² exp(−R²/2w²) + R w √(π/2) (1 + erf(R/w√2)).

    Example:
        >>> ring(4.0, 0.5, 0.0).log_density(torch.tensor([[0.0, 4.0], [4.5, 0.0]]))
        tensor([ 0.0000, -0.5000])
    """
    edge = radius / width
    over_r = width**2 * math.exp(-(edge**2) / 2)
    over_r += radius * width * math.sqrt(math.pi / 2) * (1 + math.erf(edge / math.sqrt(2)))

    def log_density(x: Tensor) -> Tensor:
        r: Tensor = torch.linalg.vector_norm(x, dim=-1)
        return shift - ((r - radius) / width).square() / 2

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        r = _radii(n, radius, width, generator)
        angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        return torch.stack([r * angle.cos(), r * angle.sin()], -1)

    return Target(
        name="ring",
        about="A Gaussian ridge around a circle, with a hole in the middle",
        dim=2,
        log_density=log_density,
        log_z=shift + _LN_2PI + math.log(over_r),
        truth="closed form; draws by rejection",
        sample=sample,
        difficulty=frozenset({Difficulty.CURVED}),
    )


def _radii(n: int, radius: float, width: float, generator: Generator | None) -> Tensor:
    """Draws (n,) of the density ∝ r exp(−(r − R)²/2w²) on r > 0, by rejection.

    Proposed are r ~ N(R, s²), s = 3w/2; the log ratio ln r − (r − R)²(1/w² − 1/s²)/2 is concave, with its maximum
    where 1/r = (r − R)(1/w² − 1/s²).
    """
    scale = 1.5 * width
    gap = 1 / width**2 - 1 / scale**2
    best = (radius + math.sqrt(radius**2 + 4 / gap)) / 2
    bound = math.log(best) - gap / 2 * (best - radius) ** 2
    kept = torch.empty(0, dtype=torch.float64)
    while len(kept) < n:
        r = radius + scale * torch.randn(2 * n, generator=generator, dtype=torch.float64)
        log_ratio = r.clamp(min=0).log() - gap / 2 * (r - radius).square()
        log_u = torch.rand(2 * n, generator=generator, dtype=torch.float64).log()
        kept = torch.cat([kept, r[log_u < log_ratio - bound]])
    return kept[:n]
