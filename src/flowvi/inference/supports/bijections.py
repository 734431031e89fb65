"""The supports: bijections from R^D onto the positive numbers, intervals, the simplex and so on.

Log-determinants are functions of the unconstrained point z, which rounding near a boundary does not reach.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import pad, softplus

from flowvi.errors import ConfigError, ShapeError

__all__ = [
    "Support",
    "correlation_cholesky",
    "interval",
    "ordered",
    "positive",
    "real",
    "simplex",
    "unit_interval",
]


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
    return _Real("real", _sizes("real", shape))


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
    return _Positive("positive", _sizes("positive", shape))


def unit_interval(*shape: int) -> Support:
    """The numbers between 0 and 1, y = 1/(1 + exp(−z)); a scalar without a shape. ln|det| = Σ ln y(1 − y).

    The base measure is that of the coordinates themselves.

    Raises:
        ShapeError: a size that is not a whole number of at least 1.

    Example:
        >>> unit_interval(2).constrain(torch.tensor([0.0, 4.0]))[0]
        tensor([0.5000, 0.9820])
    """
    return _Interval("unit_interval", _sizes("unit_interval", shape), 0.0, 1.0)


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
    return _Interval("interval", _sizes("interval", shape), float(a), float(b))


def simplex(n: int) -> Support:
    """The n positive numbers that sum to one, by stick-breaking from R^(n−1).

    With tᵢ = zᵢ − ln(n − i), i = 1 … n−1:  yᵢ = σ(tᵢ) ∏_{j<i} σ(−tⱼ), and yₙ is what remains; z = 0 is the
    centre. ln|det| = Σ ln σ(tᵢ) + (n − i) ln σ(−tᵢ).

    The base measure is the Lebesgue measure of the first n−1 coordinates, as that of torch's `Dirichlet`.

    Args:
        n: at least 2: `simplex(1)` would be one point, with no freedom.

    Raises:
        ShapeError: another n.

    Example:
        >>> value, log_det = simplex(3).constrain(torch.zeros(2))
        >>> value
        tensor([0.3333, 0.3333, 0.3333])
        >>> simplex(3).contains(torch.tensor([[0.5, 0.2, 0.3], [0.5, 0.2, 0.4]]))
        tensor([ True, False])
    """
    return _Simplex("simplex", _sizes("simplex", (n,), 2))


def ordered(n: int) -> Support:
    """Vectors of n increasing numbers: y₁ = z₁, yᵢ = yᵢ₋₁ + exp(zᵢ). ln|det| = z₂ + … + zₙ.

    The base measure is that of the coordinates themselves.

    Raises:
        ShapeError: n is not a whole number of at least 1.

    Example:
        >>> ordered(3).constrain(torch.tensor([1.0, 0.0, 0.0]))[0]
        tensor([1., 2., 3.])
    """
    return _Ordered("ordered", _sizes("ordered", (n,)))


def correlation_cholesky(n: int) -> Support:
    """The Cholesky factors L of n×n correlation matrices L Lᵀ: lower triangular, unit rows, positive diagonal.

    Row by row, with z below the diagonal in row order: Lᵢⱼ = tanh(zᵢⱼ) ∏_{k<j} sech(zᵢₖ), Lᵢᵢ = ∏_{k<i} sech(zᵢₖ)
    (Lewandowski, Kurowicka & Joe 2009; torch's `CorrCholeskyTransform`). ln|det| = Σ (i − j + 1) ln sech(zᵢⱼ).

    The base measure is the Lebesgue measure of the entries below the diagonal, as that of torch's `LKJCholesky`.

    Args:
        n: at least 2: `correlation_cholesky(1)` would be one point, with no freedom.

    Raises:
        ShapeError: another n.

    Example:
        >>> value, log_det = correlation_cholesky(2).constrain(torch.tensor([0.5]))
        >>> value
        tensor([[1.0000, 0.0000],
                [0.4621, 0.8868]])
    """
    (n,) = _sizes("correlation_cholesky", (n,), 2)
    return _CorrelationCholesky("correlation_cholesky", (n, n))


@dataclass(frozen=True, repr=False)
class Support(ABC):
    """A set of values and a bijection onto it from R^size; made by the functions of this module.

    A value never lands on the boundary by rounding, where it would have no density: it is the nearest number
    inside, and the smallest normal one beside 0. Its log-determinant is not touched by that. What is too large
    for the precision is inf, and outside.

    Example:
        >>> support = simplex(3)
        >>> support, support.shape, support.size
        (simplex(3), (3,), 2)
        >>> support == simplex(3), support == real(3)
        (True, False)
    """

    name: str
    """The function that makes it."""
    shape: tuple[int, ...]
    """The shape of one value: () for a scalar."""

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.arguments))})"

    @property
    def size(self) -> int:
        """D, the number of unconstrained reals."""
        return math.prod(self.shape)

    @property
    @abstractmethod
    def constraint(self) -> constraints.Constraint:
        """Torch's constraint for the same values, the boundary included where torch includes it."""

    def constrain(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The values of unconstrained points, and ln|det| of the map at them.

        Args:
            z: (…, size).

        Returns:
            Values (…, *shape), and ln|det ∂value/∂z| (…), in nats, onto the coordinates of the base measure.

        Raises:
            ShapeError: the last dimension is not `size`.

        Example:
            >>> positive(2).constrain(torch.zeros(5, 2))[1].shape
            torch.Size([5])
        """
        if z.dim() == 0 or z.shape[-1] != self.size:
            found, wanted = tuple(z.shape), f"(…, {self.size})"
            raise ShapeError(f"unconstrained points of shape {found}: expected {wanted} for {self}")
        return self._value(z), self._log_det(z)

    def unconstrain(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The unconstrained points of values inside, and ln|det| of the forward map at them.

        Args:
            value: (…, *shape); what is not inside (see `contains`) gives no number of use.

        Returns:
            z (…, size), and ln|det ∂value/∂z| (…), in nats.

        Raises:
            ShapeError: the last dimensions are not `shape`.

        Example:
            >>> unit_interval(2).unconstrain(torch.tensor([0.5, 0.5]))
            (tensor([0., 0.]), tensor(-2.7726))
        """
        self._check(value)
        z = self._inverse(value)
        return z, self._log_det(z)

    def contains(self, value: Tensor) -> Tensor:
        """Whether values (…, *shape) lie strictly inside, where a density is defined: (…), bool; NaN does not.

        Sums and norms that must be one may be off by 1e-6 and a few roundings for each entry.

        Raises:
            ShapeError: the last dimensions are not `shape`.

        Example:
            >>> positive().contains(torch.tensor([-1.0, 0.0, 1.0]))
            tensor([False, False,  True])
        """
        self._check(value)
        return self._inside(value)

    @property
    def arguments(self) -> tuple[float, ...]:
        """What the function `name` was called with."""
        return self.shape

    @abstractmethod
    def _value(self, z: Tensor) -> Tensor: ...

    @abstractmethod
    def _log_det(self, z: Tensor) -> Tensor: ...

    @abstractmethod
    def _inverse(self, value: Tensor) -> Tensor: ...

    @abstractmethod
    def _inside(self, value: Tensor) -> Tensor: ...

    def _check(self, value: Tensor) -> None:
        if value.dim() < len(self.shape) or value.shape[value.dim() - len(self.shape) :] != self.shape:
            wanted = ", ".join(["…", *map(str, self.shape)])
            raise ShapeError(f"points of shape {tuple(value.shape)}: expected ({wanted}) for {self}")

    def _shaped(self, z: Tensor) -> Tensor:
        return z.reshape(z.shape[:-1] + self.shape)

    def _flat(self, value: Tensor) -> Tensor:
        return value.reshape(*value.shape[: value.dim() - len(self.shape)], math.prod(self.shape))

    def _all_of(self, constraint: constraints.Constraint) -> constraints.Constraint:
        independent: Callable[..., constraints.Constraint] = constraints.independent
        return independent(constraint, len(self.shape)) if self.shape else constraint


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
        return (_log_sigmoid(z) + _log_sigmoid(-z) + math.log(at.high - at.low)).sum(-1)

    def _inverse(self, value: Tensor) -> Tensor:
        at, value = self._bounds(value), self._flat(value)
        return (value - at.low).log() - (at.high - value).log()

    def _inside(self, value: Tensor) -> Tensor:
        at, value = self._bounds(value), self._flat(value)
        return ((value > at.low) & (value < at.high)).all(-1)


class _Simplex(Support):
    # Not StickBreakingTransform: 1 − Σ yⱼ and 1 − σ(t) cancel where little remains, and are clamped; here the
    # remainders are σ(−t) one way, and sums over the entries that remain the other way.
    @property
    def size(self) -> int:
        return self.shape[0] - 1

    @property
    def constraint(self) -> constraints.Constraint:
        return constraints.simplex

    def _value(self, z: Tensor) -> Tensor:
        t = z - self._remaining(z).log()
        log_rest = pad(_log_sigmoid(-t).cumsum(-1), (1, 0))
        return (pad(_log_sigmoid(t), (0, 1)) + log_rest).exp().clamp(min=torch.finfo(z.dtype).tiny)

    def _log_det(self, z: Tensor) -> Tensor:
        remaining = self._remaining(z)
        t = z - remaining.log()
        return (_log_sigmoid(t) + remaining * _log_sigmoid(-t)).sum(-1)

    def _inverse(self, value: Tensor) -> Tensor:
        rest = value.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        return value[..., :-1].log() - rest.log() + self._remaining(value).log()

    def _inside(self, value: Tensor) -> Tensor:
        return (value > 0).all(-1) & _is_one(value.sum(-1), value)

    def _remaining(self, points: Tensor) -> Tensor:
        """n − i for i = 1 … n−1."""
        return torch.arange(self.size, 0, -1, dtype=points.dtype, device=points.device)


class _Ordered(Support):
    @property
    def constraint(self) -> constraints.Constraint:
        return _increasing

    def _value(self, z: Tensor) -> Tensor:
        values = [z[..., 0]]
        for gap in z[..., 1:].exp().unbind(-1):
            below = values[-1].detach()
            least = torch.nextafter(below, torch.full_like(below, math.inf)) - below
            values.append(values[-1] + torch.maximum(gap, least.nan_to_num(0.0, math.inf)))
        return torch.stack(values, -1)

    def _log_det(self, z: Tensor) -> Tensor:
        return z[..., 1:].sum(-1)

    def _inverse(self, value: Tensor) -> Tensor:
        return torch.cat([value[..., :1], value.diff(dim=-1).log()], -1)

    def _inside(self, value: Tensor) -> Tensor:
        return _increasing.check(value) & value.isfinite().all(-1)


class _CorrelationCholesky(Support):
    # Not CorrCholeskyTransform: it clamps tanh(z) to ±(1 − ε), |z| < 9 in float32, and 1 − Σ L² cancels in its
    # log-determinant and its inverse; here ln sech(z) one way, and norms of the entries that remain the other.
    @property
    def size(self) -> int:
        return self.shape[0] * (self.shape[0] - 1) // 2

    @property
    def constraint(self) -> constraints.Constraint:
        return constraints.corr_cholesky

    @property
    def arguments(self) -> tuple[float, ...]:
        return self.shape[:1]

    def _value(self, z: Tensor) -> Tensor:
        log_rest = pad(self._lower(_log_sech(z)).cumsum(-1)[..., :-1], (1, 0))
        unit = torch.eye(self.shape[0], dtype=z.dtype, device=z.device)
        return (self._lower(z.tanh()) + unit) * log_rest.exp().clamp(min=torch.finfo(z.dtype).tiny)

    def _log_det(self, z: Tensor) -> Tensor:
        rows, columns = self._indices(z)
        return ((rows - columns + 1) * _log_sech(z)).sum(-1)

    def _inverse(self, value: Tensor) -> Tensor:
        rest = value.diagonal(dim1=-2, dim2=-1)  # of each row, the norm of what is right of column j
        columns = []
        for j in reversed(range(self.shape[0] - 1)):
            below, right = value[..., j + 1 :, j], rest[..., j + 1 :]
            norm = torch.hypot(below, right)
            columns.append(pad(_asinh(below, right, norm), (j + 1, 0)))
            rest = torch.cat([rest[..., : j + 1], norm], -1)
        rows, below_diagonal = self._indices(value)
        return torch.stack(columns[::-1], -1)[..., rows, below_diagonal]

    def _inside(self, value: Tensor) -> Tensor:
        lower = (value.triu(1) == 0).flatten(-2).all(-1)
        unit = _is_one(value.square().sum(-1), value).all(-1)
        return lower & unit & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)

    def _indices(self, points: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = torch.tril_indices(self.shape[0], self.shape[1], -1, device=points.device)
        return rows, columns

    def _lower(self, z: Tensor) -> Tensor:
        """(…, size) -> (…, n, n), below the diagonal in row order, 0 elsewhere."""
        rows, columns = self._indices(z)
        place = torch.full(self.shape, self.size, device=z.device)
        place[rows, columns] = torch.arange(self.size, device=z.device)
        return pad(z, (0, 1))[..., place]


class _Increasing(constraints.Constraint):
    """Vectors whose entries increase; torch has no such constraint."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value[..., 1:] > value[..., :-1]).all(-1) & ~value.isnan().any(-1)


_increasing = _Increasing()


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


def _log_sigmoid(x: Tensor) -> Tensor:
    # softplus is by default linear beyond 20, off by 2e-9; logsigmoid's gradient warns under a nested vmap.
    return -softplus(-x, threshold=40.0)


def _log_sech(z: Tensor) -> Tensor:
    """ln sech(z) = ln 2 + ½ ln σ(2z) + ½ ln σ(−2z), without the overflow of cosh."""
    return math.log(2) + (_log_sigmoid(2 * z) + _log_sigmoid(-2 * z)) / 2


def _asinh(opposite: Tensor, adjacent: Tensor, norm: Tensor) -> Tensor:
    """asinh(opposite/adjacent), adjacent > 0, with `norm` their hypotenuse: also where the ratio overflows."""
    small = opposite.abs() < adjacent
    size = torch.where(opposite < 0, -opposite, opposite)
    large = (size + norm).log() - adjacent.log()
    return torch.where(
        small,
        (torch.where(small, opposite, 0.0) / adjacent).asinh(),
        torch.where(opposite < 0, -large, large),
    )


def _is_one(total: Tensor, value: Tensor) -> Tensor:
    tolerance: float = 1e-6 + 4 * torch.finfo(value.dtype).eps * value.shape[-1]
    return (total - 1).abs() <= tolerance


def _sizes(name: str, sizes: tuple[Any, ...], least: int = 1) -> tuple[int, ...]:
    if any(isinstance(size, bool) or not isinstance(size, int) or size < least for size in sizes):
        found = ", ".join(map(repr, sizes))
        raise ShapeError(f"{name}: sizes ({found}): expected whole numbers of at least {least}")
    return sizes
