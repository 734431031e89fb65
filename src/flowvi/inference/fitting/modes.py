"""The modes of a log density: many optimisations at once from broad starts, and Laplace's approximation at each end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowvi.inference.fitting.density import Density

__all__ = ["Mode", "climb", "find_modes", "laplace", "merged"]

_ARMIJO = 1e-4  # the share of the promised gain that a step must bring
_HALVINGS = 12  # of a step, before its start is where it stays
_LONGEST = 10.0  # of one step in unconstrained space: a start on a cliff must not leave the region
_SAME = 2.0  # standard deviations: closer ends are one mode
_FLATTEST = 1e-4  # of the curvatures at an end, beside the largest: flatter is taken for so much


@dataclass(frozen=True)
class Mode:
    """An optimum z* of ln f, and the Gaussian N(z*, LLᵀ) whose logarithm has its curvature."""

    mean: Tensor
    """z*, (D,)."""
    scale: Tensor
    """L, lower triangular, (D, D)."""
    log_mass: float
    """ln f(z*) + (D/2) ln 2π + ln|L|, in nats: ln ∫ f if f were this Gaussian (Tierney & Kadane 1986, Eq. 2.2)."""
    starts: int = 1
    """How many optimisations ended here."""


def find_modes(
    density: Density, starts: Tensor, most: int, scale: Tensor | None = None, steps: int = 100
) -> list[Mode]:
    """The modes that optimisations from `starts` (n, D) end at, those of the greatest Laplace mass first.

    Ends within two standard deviations of a better one belong to it. Where the curvature at an end is not that of a
    maximum (a saddle, a plateau, a kink) it is flattened, not left out: what the mass there is, importance sampling
    has to say.

    Args:
        density: over unconstrained points.
        starts: of finite density.
        most: modes to return.
        scale: L, lower triangular, (D, D), of coordinates in which the density is not stretched; or None.
        steps: of each optimisation.

    Example:
        >>> from flowvi.inference.fitting.joint import Joint
        >>> density = Density(lambda z: torch.logaddexp(-8 * (z[:, 0] - 2) ** 2, -8 * (z[:, 0] + 2) ** 2), Joint.of(1))
        >>> found = find_modes(density, torch.tensor([[-3.0], [1.0], [2.5]]), 8)
        >>> sorted(round(mode.mean.item(), 2) for mode in found)
        [-2.0, 2.0]
    """
    ends, heights = climb(density, starts, scale, steps)
    found: list[Mode] = []
    for i in heights.argsort(descending=True).tolist():
        near = next((k for k, mode in enumerate(found) if _distance(mode, ends[i]) < _SAME), None)
        if near is not None:
            found[near] = replace(found[near], starts=found[near].starts + 1)
        elif heights[i].isfinite() and len(found) < most:
            found.append(laplace(density, ends[i], heights[i].item()))
    return sorted(found, key=lambda mode: -mode.log_mass)


def merged(modes: Sequence[Mode]) -> list[Mode]:
    """The modes without those that lie within two standard deviations of one of greater mass."""
    kept: list[Mode] = []
    for mode in sorted(modes, key=lambda mode: -mode.log_mass):
        near = next((k for k, other in enumerate(kept) if _distance(other, mode.mean) < _SAME), None)
        if near is None:
            kept.append(mode)
        else:
            kept[near] = replace(kept[near], starts=kept[near].starts + mode.starts)
    return kept


def climb(density: Density, starts: Tensor, scale: Tensor | None, steps: int) -> tuple[Tensor, Tensor]:
    """Maximise ln f from every start (n, D) at once by BFGS (Nocedal & Wright 2006, Eq. 6.17): ends and ln f there."""
    z = starts
    value, slope = _value_and_slope(density, z)
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    inverse = eye.expand(len(z), -1, -1) / slope.norm(dim=-1).clamp(min=1.0)[:, None, None]
    if scale is not None:
        inverse = (scale @ scale.mT).expand_as(inverse)
    fresh = torch.ones_like(value, dtype=torch.bool)  # whether `inverse` knows no curvature yet
    active = value.isfinite()
    for _ in range(steps):
        direction = (inverse @ slope[..., None])[..., 0]
        direction = direction * (_LONGEST / direction.norm(dim=-1, keepdim=True).clamp(min=1e-30)).clamp(max=1.0)
        moved = _search(density, z, value, direction, (direction * slope).sum(-1), active)
        new_value, new_slope = _value_and_slope(density, moved)
        stuck = new_value - value <= 8 * torch.finfo(z.dtype).eps * (1 + value.abs())
        active = active & ~(stuck & fresh)
        if not active.any():
            break
        inverse, fresh = _updated(inverse, moved - z, slope - new_slope, fresh | stuck, eye)
        z, value, slope = moved, new_value, new_slope
    return z, value


def _value_and_slope(density: Density, z: Tensor) -> tuple[Tensor, Tensor]:
    value, slope = density.value_and_gradient(z)
    return value, slope.nan_to_num(0.0, 0.0, 0.0)


def _search(density: Density, z: Tensor, value: Tensor, direction: Tensor, promised: Tensor, active: Tensor) -> Tensor:
    """Points (n, D) along the directions where ln f gains its share of what the slope promised; where none, z."""
    length, found = torch.ones_like(value), z
    open_ = active & (promised > 0)
    for _ in range(_HALVINGS):
        rows = open_.nonzero()[:, 0]
        if not len(rows):
            break
        tried = z[rows] + length[rows, None] * direction[rows]
        with torch.no_grad():
            gain = density(tried) - value[rows]
        good = gain.isfinite() & (gain >= _ARMIJO * length[rows] * promised[rows])
        found = found.index_put((rows[good],), tried[good])
        open_ = open_.index_put((rows[good],), torch.zeros_like(good[good]))
        length = length / 2
    return found


def _updated(inverse: Tensor, step: Tensor, bend: Tensor, fresh: Tensor, eye: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse curvatures (n, D, D) after a step s along which the slope fell by y, and which of them are new.

    H' = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ with ρ = 1/sᵀy, where sᵀy > 0; a new H is first scaled to sᵀy/yᵀy
    (Nocedal & Wright 2006, Eq. 6.20).
    """
    along, square = (step * bend).sum(-1), bend.square().sum(-1)
    good = along > 1e-10 * step.norm(dim=-1) * bend.norm(dim=-1)
    rho = torch.where(good, 1 / along, 0.0)[:, None, None]
    scaled = torch.where(good & fresh, along / square, 1.0)[:, None, None]
    start = torch.where((good & fresh)[:, None, None], eye * scaled, inverse)
    left = eye - rho * step[:, :, None] * bend[:, None, :]
    new = left @ start @ left.mT + rho * step[:, :, None] * step[:, None, :]
    return torch.where(good[:, None, None], new, eye), ~good


def laplace(density: Density, at: Tensor, height: float) -> Mode:
    """The Laplace approximation at z* (D,), where ln f is `height`; curvatures are differences of its gradient.

    Differences are first taken a thousandth wide, then once more as wide as the scale that they have shown.
    """
    width = torch.full_like(at, 1e-3)
    for _ in range(2):
        scale = _scale(density, at, width)
        width = (1e-2 * scale.norm(dim=-1)).clamp(1e-6, 1.0)
    dim = len(at)
    log_mass = height + 0.5 * dim * math.log(2 * math.pi) + scale.diagonal().log().sum().item()
    return Mode(at, scale, log_mass)


def _scale(density: Density, at: Tensor, width: Tensor) -> Tensor:
    """L of the inverse curvature at a point; curvatures below a share of the largest are raised to it."""
    steps = torch.diag(width)
    _, slope = _value_and_slope(density, torch.cat([at + steps, at - steps]))
    ahead, behind = slope.chunk(2)
    curvature = (behind - ahead) / (2 * width[:, None]) * (width[:, None] * width)  # in units of the widths
    curvature = (curvature + curvature.mT) / 2
    values, vectors = torch.linalg.eigh(curvature)
    values = values.clamp(min=max(_FLATTEST * values.max().item(), 1e-12))
    root = width[:, None] * vectors / values.sqrt()
    triangular: Tensor = torch.linalg.qr(root.mT).R.mT
    return triangular * triangular.diagonal().sign()


def _distance(mode: Mode, z: Tensor) -> float:
    """From a mode, in its standard deviations."""
    gap = torch.linalg.solve_triangular(mode.scale, (z - mode.mean)[:, None], upper=False)
    return float(gap.norm())
