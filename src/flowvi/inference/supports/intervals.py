"""The numbers between two bounds."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real

import torch
from torch import Tensor
from torch.distributions import constraints

from flowvi.errors import ConfigError
from flowvi.inference.supports.sigmoid import log_sigmoid
from flowvi.inference.supports.support import Support, checked_sizes

__all__ = ["interval", "unit_interval"]


def unit_interval(*shape: int) -> Support:
    """The numbers between 0 and 1, y = 1/(1 + exp(−z)); a scalar without a shape. ln|det| = Σ ln y(1 − y).

    The base measure is that of the coordinates themselves.

    Raises:
        ShapeError: a size that is not a whole number of at least 1.

    Example:
        >>> unit_interval(2).constrain(torch.tensor([0.0, 4.0]))[0]
        tensor([0.5000, 0.9820])
    """
    return _Interval("unit_interval", checked_sizes("unit_interval", shape), 0.0, 1.0)


def interval(a: float, b: float, *shape: int) -> Support:
    """The numbers between a and b, y = a + (b − a)/(1 + exp(−z)); a scalar without a shape.

    The base measure is that of the coordinates themselves. The bounds are those of the points' precision.

    Raises:
        ConfigError: bounds that are not finite numbers a < b, or (when used) hold no number of the points'
            precision between them.
        ShapeError: a size that is not a whole number of at least 1.

    Example:
        >>> interval(-1, 1, 2).constrain(torch.tensor([0.0, 4.0]))[0]
        tensor([0.0000, 0.9640])
    """
    numbers = all(isinstance(bound, Real) and not isinstance(bound, bool) for bound in (a, b))
    if not (numbers and max(abs(a), abs(b)) <= sys.float_info.max and 0 < float(b) - float(a) < math.inf):
        raise ConfigError(f"interval({a!r}, {b!r}): expected finite numbers a < b, and a finite b − a")
    return _Interval("interval", checked_sizes("interval", shape), float(a), float(b))


@dataclass(frozen=True, repr=False)
class _Interval(Support):
    # Not SigmoidTransform: it moves all beyond 1 − ε, where two numbers fewer remain, its inverse moves points
    # that are outside to the inside, and softplus, linear beyond 20, is off by 2e-9 in float64.
    low: float
    high: float

    @property
    def constraint(self) -> constraints.Constraint:
        unit = self.name == "unit_interval"
        return self._all_of(constraints.unit_interval if unit else constraints.interval(self.low, self.high))

    @property
    def arguments(self) -> tuple[float, ...]:
        return self.shape if self.name == "unit_interval" else (self.low, self.high, *self.shape)

    def _bounds(self, points: Tensor) -> _Bounds:
        bounds = _bounds(self.low, self.high, points.dtype)
        if not bounds.low < bounds.least <= bounds.greatest < bounds.high:
            raise ConfigError(f"{self} holds no number of {points.dtype}: choose a wider one, or a higher precision")
        return bounds

    def _value(self, z: Tensor) -> Tensor:
        at = self._bounds(z)
        width = at.high - at.low
        value = torch.where(z < 0, at.low + width * z.sigmoid(), at.high - width * (-z).sigmoid())  # from the near end
        return self._shaped(value.clamp(at.least, at.greatest))

    def _log_det(self, z: Tensor) -> Tensor:
        at = self._bounds(z)
        return (log_sigmoid(z) + log_sigmoid(-z) + math.log(at.high - at.low)).sum(-1)

    def _inverse(self, value: Tensor) -> Tensor:
        at, value = self._bounds(value), self._flat(value)
        return (value - at.low).log() - (at.high - value).log()

    def _inside(self, value: Tensor) -> Tensor:
        at, value = self._bounds(value), self._flat(value)
        return ((value > at.low) & (value < at.high)).all(-1)


@dataclass(frozen=True)
class _Bounds:
    low: float
    high: float
    least: float
    greatest: float


@lru_cache
def _bounds(low: float, high: float, dtype: torch.dtype) -> _Bounds:
    """The bounds in a precision, and the least and greatest number strictly between them that is not subnormal."""
    ends = torch.tensor([low, high], dtype=dtype, device="cpu")
    inner = torch.nextafter(ends, ends.flip(0))
    (low, high), (least, greatest) = ends.tolist(), inner.tolist()
    tiny = torch.finfo(dtype).tiny
    if not high - low <= torch.finfo(dtype).max:
        return _Bounds(low, high, math.inf, -math.inf)
    return _Bounds(low, high, max(least, low + tiny), min(greatest, high - tiny))
