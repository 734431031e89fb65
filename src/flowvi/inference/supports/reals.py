"""All real numbers, and the positive ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from flowvi.inference.supports.support import Support, checked_sizes

__all__ = ["positive", "real"]


def real(*shape: int) -> Support:
    """All real numbers: a scalar `real()`, a vector `real(8)`, a matrix `real(2, 3)`; the identity.

    The base measure is that of the coordinates themselves.

    Raises:
        ShapeError: a size that is not a whole number of at least 1.

    Example:
        >>> real(2, 3)
        real(2, 3)
        >>> real(2, 3).size
        6
    """
    return _Real("real", checked_sizes("real", shape))


def positive(*shape: int) -> Support:
    """The positive numbers, y = exp(z); a scalar without a shape. ln|det| = Σ z.

    The base measure is that of the coordinates themselves.

    Raises:
        ShapeError: a size that is not a whole number of at least 1.

    Example:
        >>> value, log_det = positive().constrain(torch.tensor([2.0]))
        >>> value, log_det
        (tensor(7.3891), tensor(2.))
    """
    return _Positive("positive", checked_sizes("positive", shape))


class _Real(Support):
    @property
    def constraint(self) -> constraints.Constraint:
        return self._all_of(constraints.real)

    def _value(self, z: Tensor) -> Tensor:
        return self._shaped(z)

    def _log_det(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z[..., 0])

    def _inverse(self, value: Tensor) -> Tensor:
        return self._flat(value)

    def _inside(self, value: Tensor) -> Tensor:
        return self._flat(value).isfinite().all(-1)


class _Positive(Support):
    @property
    def constraint(self) -> constraints.Constraint:
        return self._all_of(constraints.positive)

    def _value(self, z: Tensor) -> Tensor:
        return self._shaped(z.exp().clamp(min=torch.finfo(z.dtype).tiny))  # ExpTransform gives 0, the boundary

    def _log_det(self, z: Tensor) -> Tensor:
        return z.sum(-1)

    def _inverse(self, value: Tensor) -> Tensor:
        return self._flat(value).log()

    def _inside(self, value: Tensor) -> Tensor:
        return ((self._flat(value) > 0) & self._flat(value).isfinite()).all(-1)
