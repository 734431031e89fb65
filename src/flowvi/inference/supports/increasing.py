"""Vectors whose entries increase."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from flowvi.inference.supports.support import Support, checked_sizes

__all__ = ["ordered"]


def ordered(n: int) -> Support:
    """Vectors of n increasing numbers: y₁ = z₁, yᵢ = yᵢ₋₁ + exp(zᵢ). ln|det| = z₂ + … + zₙ.

    The base measure is that of the coordinates themselves.

    Raises:
        ShapeError: n is not a whole number of at least 1.

    Example:
        >>> ordered(3).constrain(torch.tensor([1.0, 0.0, 0.0]))[0]
        tensor([1., 2., 3.])
    """
    return _Ordered("ordered", checked_sizes("ordered", (n,)))


class _Ordered(Support):
    @property
    def constraint(self) -> constraints.Constraint:
        return _increasing

    def _value(self, z: Tensor) -> Tensor:
        values = [z[..., 0]]
        for gap in z[..., 1:].exp().unbind(-1):
            below = values[-1].detach()
            least = torch.nextafter(below, torch.full_like(below, math.inf)) - below
            least = least.nan_to_num(0.0, math.inf).clamp(min=torch.finfo(z.dtype).tiny)  # beside 0, it is subnormal
            values.append(values[-1] + torch.maximum(gap, least))
        return torch.stack(values, -1)

    def _log_det(self, z: Tensor) -> Tensor:
        return z[..., 1:].sum(-1)

    def _inverse(self, value: Tensor) -> Tensor:
        return torch.cat([value[..., :1], value.diff(dim=-1).log()], -1)

    def _inside(self, value: Tensor) -> Tensor:
        return _increasing.check(value) & value.isfinite().all(-1)


class _Increasing(constraints.Constraint):
    """Vectors whose entries increase; torch has no such constraint."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value[..., 1:] > value[..., :-1]).all(-1) & ~value.isnan().any(-1)


_increasing = _Increasing()
