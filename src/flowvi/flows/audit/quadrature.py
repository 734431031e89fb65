"""Integrals of densities in the plane: adaptive quadrature."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["box", "integral"]

_ROOT = 0.5 * 0.6**0.5  # Gauss-Legendre, three points on (−½, ½)
_DEEPEST = 12


def integral(
    log_density: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, tolerance: float = 2e-4, sides: int = 64
) -> float:
    """Over the box from `low` to `high`, by cells split in four until they agree with their quarters.

    Args:
        log_density: (…, 2) -> (…), in float64.
        low: (2,), the box's lower corner.
        high: (2,), its upper corner.
        tolerance: of the integral, roughly.
        sides: cells along each side at first.

    Example:
        >>> corner = 4 * torch.ones(2, dtype=torch.float64)
        >>> round(integral(lambda z: -z.square().sum(-1), -corner, corner), 3)  # of exp(−‖z‖²): π
        3.142
    """
    nodes = _square(torch.tensor([-_ROOT, 0.0, _ROOT], dtype=torch.float64))
    weights = _square(torch.tensor([5, 8, 5], dtype=torch.float64) / 18).prod(-1)

    def cells(centres: Tensor, width: Tensor) -> Tensor:
        values = log_density(centres[:, None] + nodes * width).exp()
        return values @ weights * width.prod()

    width = (high - low) / sides
    centres = low + _square(torch.arange(sides, dtype=torch.float64) + 0.5) * width
    coarse, total = cells(centres, width), 0.0
    quarters = _square(torch.tensor([-0.25, 0.25], dtype=torch.float64))
    for _ in range(_DEEPEST):
        split = (centres[:, None] + quarters * width).flatten(0, 1)
        width = width / 2
        fine = cells(split, width)
        change = (fine.view(-1, 4).sum(-1) - coarse).abs()
        keep = change.sort().values.cumsum(0) > tolerance / 4  # all but the cells that agree, taken together
        rough = torch.zeros_like(change, dtype=torch.bool).scatter(0, change.argsort(), keep)
        total += fine.view(-1, 4)[~rough].sum().item()
        centres, coarse = split.view(-1, 4, 2)[rough].flatten(0, 1), fine.view(-1, 4)[rough].flatten()
        if not rough.any():
            return total
    return total + coarse.sum().item()


def box(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Wide enough for all of the mass, by far more than the samples, (N, 2), reach: its two corners."""
    low, high = samples.amin(0), samples.amax(0)
    margin = 0.5 * (high - low)
    return low - margin, high + margin


def _square(values: Tensor) -> Tensor:
    pairs: Tensor = torch.cartesian_prod(values, values)
    return pairs
