"""Flows pushed onto a support."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from flowvi.errors import ShapeError
from flowvi.inference.supports.support import Support

__all__ = ["Supported", "SupportedDistribution"]


class Supported(nn.Module):
    """A flow pushed onto a support: called with a context (or nothing) it gives a `SupportedDistribution`.

    Args:
        flow: a module that, called with a context (or nothing), gives a distribution of event_shape
            (support.size,) with `rsample_and_log_prob`.
        support: where to.

    Raises:
        ShapeError: a flow of another number of features.

    Example:
        >>> import flowvi
        >>> from flowvi.inference.supports import simplex
        >>> q = Supported(flowvi.flows.Planar(2, length=4), simplex(3))()
        >>> q
        SupportedDistribution(simplex(3), batch_shape: (), event_shape: (3,))
        >>> y, log_q = q.rsample_and_log_prob((5,))
        >>> y.shape, log_q.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(self, flow: nn.Module, support: Support) -> None:
        super().__init__()
        _check_features(support, getattr(flow, "features", support.size))
        self.flow, self.support = flow, support

    def extra_repr(self) -> str:
        """The support, in the module's printed form."""
        return f"(support): {self.support}"

    def forward(self, context: Tensor | None = None) -> SupportedDistribution:
        """The distribution given `context`, (batch…, context) or None."""
        return SupportedDistribution(self.flow() if context is None else self.flow(context), self.support)


class SupportedDistribution(Distribution):
    """The density of y = f(z), z ~ q, f onto a support: ln p(y) = ln q(z) − ln|det ∂y/∂z|, in nats.

    It is a density of the support's base measure, and −inf outside and on the boundary. A sample's log density
    from `rsample_and_log_prob` is that of the z it was made of; `log_prob` has only the sample itself, rounded,
    which beside a boundary may stand for a range of z.

    Args:
        base: q, of event_shape (support.size,), with `rsample_and_log_prob`.
        support: where to.
        validate_args: as in torch, but that points outside are allowed: `log_prob` then refuses points that
            are NaN. By default that of the base.

    Raises:
        ShapeError: a base of another event_shape.

    Example:
        >>> import flowvi
        >>> from flowvi.inference.supports import positive
        >>> q = SupportedDistribution(flowvi.flows.Gaussian(1)(), positive())
        >>> q.log_prob(torch.tensor([-1.0, 0.0, 1.0])).detach()
        tensor([   -inf,    -inf, -0.9189])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (torch's own form)
    has_rsample = True

    def __init__(self, base: Any, support: Support, validate_args: bool | None = None) -> None:
        if len(base.event_shape) != 1:
            found, wanted = tuple(base.event_shape), f"({support.size},)"
            raise ShapeError(f"{support} needs a distribution of event_shape {wanted}: found {found}")
        _check_features(support, base.event_shape[0])
        self.base, self._onto = base, support
        validate_args = base._validate_args if validate_args is None else validate_args
        super().__init__(base.batch_shape, Size(support.shape), validate_args=validate_args)

    def __repr__(self) -> str:
        shapes = f"batch_shape: {tuple(self.batch_shape)}, event_shape: {tuple(self.event_shape)}"
        return f"SupportedDistribution({self._onto}, {shapes})"

    @property
    def support(self) -> constraints.Constraint:
        """Torch's constraint for the values."""
        return self._onto.constraint

    def expand(self, batch_shape: Any, _instance: Any = None) -> SupportedDistribution:
        """The same distribution with its batch dimensions expanded, without copying."""
        get_instance: Callable[..., SupportedDistribution] = self._get_checked_instance  # not annotated in torch
        new = get_instance(SupportedDistribution, _instance)
        new.base, new._onto = self.base.expand(Size(batch_shape)), self._onto
        super(SupportedDistribution, new).__init__(Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Reparameterised samples, (S…, batch…, *shape)."""
        return self.rsample_and_log_prob(sample_shape)[0]

    def rsample_and_log_prob(self, sample_shape: Any = (), *, path: bool = False) -> tuple[Tensor, Tensor]:
        """Reparameterised samples (S…, batch…, *shape) and their log density (S…, batch…), in nats, in one pass.

        `path`: as `flowvi.flows.FlowDistribution` takes it; the support has no parameters of its own.
        """
        along = {"path": True} if path else {}  # the flow of another package need not take it
        return self._onto_support(*self.base.rsample_and_log_prob(Size(sample_shape), **along))

    @property
    def push(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Push standard normal noise (S…, batch…, size) through flow and support: values and ln p(value).

        There only where the flow's distribution has it (a property, so that `hasattr` tells).
        """
        through: Callable[[Tensor], tuple[Tensor, Tensor]] = self.base.push
        return lambda noise: self._onto_support(*through(noise))

    def log_prob(self, value: Tensor) -> Tensor:
        """ln p(value), (S…, batch…), in nats; `value` (S…, batch…, *shape) may be any point: outside −inf.

        Raises:
            ShapeError: the last dimensions are not the support's shape, or the others do not fit batch_shape.
            ValueError: a value that is NaN, unless validation is off: then its density is NaN.
        """
        inside = self._onto.contains(value)
        try:
            torch.broadcast_shapes(inside.shape, self.batch_shape)
        except RuntimeError:
            found, shapes = tuple(value.shape), (*self.batch_shape, *self.event_shape)
            raise ShapeError(f"points of shape {found}: do not broadcast against batch and event {shapes}") from None
        nan = self._onto._flat(value).isnan().any(-1)
        if self._validate_args and nan.any():
            raise ValueError(f"points of shape {tuple(value.shape)}: NaN is not within the support {self._onto}")
        # Points outside are replaced before the inverse, whose NaN would reach the gradient through `where`.
        instead, _ = self._onto.constrain(value.new_zeros(self._onto.size))
        mask = inside.reshape(inside.shape + (1,) * len(self._onto.shape))
        z, log_det = self._onto.unconstrain(torch.where(mask, value, instead))
        log_p = torch.where(inside, self.base.log_prob(z) - log_det, -math.inf)
        return torch.where(nan, math.nan, log_p)

    def _onto_support(self, z: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        value, log_det = self._onto.constrain(z)
        return value, log_q - log_det


def _check_features(support: Support, found: int) -> None:
    if found != support.size:
        raise ShapeError(f"{support} needs a flow of {support.size} features: found {found}")
