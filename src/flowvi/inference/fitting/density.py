"""The user's log density over unconstrained points: called, and what it met counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowvi.inference.fitting.joint import Joint

__all__ = ["Counts", "Density"]


@dataclass
class Counts:
    """What a log density gave so far.

    Example:
        >>> Counts(points=100, minus_inf=3).not_finite
        3
    """

    points: int = 0
    nan: int = 0
    minus_inf: int = 0
    plus_inf: int = 0
    gradients: int = 0
    """Points of finite density whose gradient is not finite."""

    @property
    def not_finite(self) -> int:
        """Points where the density is no finite number."""
        return self.nan + self.minus_inf + self.plus_inf


class Density:
    """ln f(y(z)) + Σ ln|det ∂y/∂z|: the user's f, as a function of unconstrained points z (n, D).

    Values are passed on as they are, NaN and infinities too, and counted in `counts`. What the function raises is not
    touched.

    Args:
        function: f, values (n, *shape) -> (n,); or where not vectorised the values of one point -> ().
        joint: the parameters.
        vectorised: whether f takes many points; else it is mapped over them (`torch.func.vmap`, or if `looped` a loop).

    Example:
        >>> density = Density(lambda z: -z.square().sum(-1) / 2, Joint.of(2))
        >>> value, slope = density.value_and_gradient(torch.ones(3, 2))
        >>> value, slope[0]
        (tensor([-1., -1., -1.]), tensor([-1., -1.]))
        >>> density.counts.points
        3
    """

    def __init__(self, function: Callable[[Any], Tensor], joint: Joint, vectorised: bool = True) -> None:
        self.function, self.joint, self.vectorised = function, joint, vectorised
        self.looped = False
        self.counts = Counts()

    def __call__(self, z: Tensor) -> Tensor:
        """The log density at z (n, D): (n,), in nats, of z's dtype."""
        values, log_det = self.joint.constrain(z)
        log_f = self.raw(values).to(z.dtype) + log_det
        self._count(log_f.detach())
        return log_f

    def raw(self, values: Any) -> Tensor:
        """What the user's function gives for `values`, (n, *shape): nothing checked or counted."""
        if self.vectorised:
            return self.function(values)
        if not self.looped:
            mapped: Tensor = torch.func.vmap(self.function)(values)
            return mapped
        if self.joint.plain:
            return torch.stack([self.function(point) for point in values])
        n = len(next(iter(values.values())))
        return torch.stack([self.function({name: value[i] for name, value in values.items()}) for i in range(n)])

    def apart(self) -> Density:
        """The same density, which counts for itself."""
        other = Density(self.function, self.joint, self.vectorised)
        other.looped = self.looped
        return other

    def to_start(self) -> Density:
        """What to start a search on: this density, or a cheaper one that is like it."""
        return self

    def for_steps(self, near: Tensor) -> Density:
        """What to take gradient steps on, for a posterior around `near` (D,): this density, or estimates of it."""
        return self

    def value_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The log density (n,) and its gradient by z (n, D), without a graph; 0 where nothing depends on z."""
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            value = self(at)
            if not value.requires_grad:
                return value, torch.zeros_like(z)
            (slope,) = torch.autograd.grad(value.sum(), at)
        value = value.detach()
        self.counts.gradients += int((value.isfinite() & ~slope.isfinite().all(-1)).sum())
        return value, slope

    def _count(self, log_f: Tensor) -> None:
        counts = self.counts
        counts.points += log_f.numel()
        if not log_f.isfinite().all():
            counts.nan += int(log_f.isnan().sum())
            counts.minus_inf += int((log_f == -torch.inf).sum())
            counts.plus_inf += int((log_f == torch.inf).sum())
