"""What a support is: a bijection from R^size onto a set of values, and its log-determinant.

Log-determinants are functions of the unconstrained point z, which rounding near a boundary does not reach.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from flowvi.errors import ShapeError

__all__ = ["Support", "checked_sizes", "is_one"]


@dataclass(frozen=True, repr=False)
class Support(ABC):
    """A set of values and a bijection onto it from R^size; made by the functions of `flowvi.supports`.

    A value never lands on the boundary by rounding, where it would have no density: it is the nearest number
    inside, and the smallest normal one beside 0. Its log-determinant is not touched by that. What is too large
    for the precision is inf, and outside.

    Example:
        >>> from flowvi.inference.supports import real, simplex
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
            >>> from flowvi.inference.supports import positive
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
            >>> from flowvi.inference.supports import unit_interval
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
            >>> from flowvi.inference.supports import positive
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


def checked_sizes(name: str, sizes: tuple[Any, ...], least: int = 1) -> tuple[int, ...]:
    """The sizes that a support was asked for by the function `name`, all of them whole numbers of at least `least`.

    Raises:
        ShapeError: one that is not.
    """
    if any(isinstance(size, bool) or not isinstance(size, int) or size < least for size in sizes):
        found = ", ".join(map(repr, sizes))
        raise ShapeError(f"{name}: sizes ({found}): expected whole numbers of at least {least}")
    return sizes


def is_one(total: Tensor, value: Tensor) -> Tensor:
    """Whether sums or norms over the entries (last dimension) of `value` are one, as `Support.contains` takes it."""
    tolerance: float = 1e-6 + 4 * torch.finfo(value.dtype).eps * value.shape[-1]
    return (total - 1).abs() <= tolerance
