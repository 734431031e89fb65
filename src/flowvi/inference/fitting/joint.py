"""All parameters of a model as one vector: a support each, side by side in R^D."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from flowvi.errors import ConfigError, ShapeError
from flowvi.inference.supports import Support, real

__all__ = ["Joint", "JointDistribution", "Values"]

Values = Tensor | dict[str, Tensor]
"""Points as the user has them: (n, D), or by name (n, *shape)."""


@dataclass(frozen=True)
class Joint:
    """The parameters by name, each on its support; or one plain vector, which has no name.

    Example:
        >>> from flowvi.inference.supports import positive
        >>> joint = Joint.of({"mu": real(), "tau": positive(2)})
        >>> values, log_det = joint.constrain(torch.zeros(5, joint.size))
        >>> {name: tuple(value.shape) for name, value in values.items()}
        {'mu': (5,), 'tau': (5, 2)}
    """

    supports: Mapping[str, Support]
    plain: bool = False
    """Whether it is a plain vector: points are then tensors, not dicts."""

    @classmethod
    def of(cls, parameters: Any) -> Joint:
        """From what `fit` is given: D, or supports by name.

        Raises:
            ConfigError: neither a whole number of at least 1 nor a mapping of names to supports, or an empty one.
        """
        if isinstance(parameters, int) and not isinstance(parameters, bool) and parameters >= 1:
            return cls({"z": real(parameters)}, plain=True)
        if not isinstance(parameters, Mapping) or not parameters:
            wanted = 'a whole number D of at least 1, or supports by name such as {"mu": real(), "tau": positive()}'
            raise ConfigError(f"parameters = {parameters!r}: expected {wanted}")
        for name, support in parameters.items():
            if not isinstance(name, str):
                raise ConfigError(f"a parameter's name is {name!r}: expected text")
            if not isinstance(support, Support):
                found = f"the function {support.__name__}" if callable(support) else repr(support)
                hint = f": call it, such as {support.__name__}()" if callable(support) else ""
                raise ConfigError(
                    f"parameter {name!r}: found {found}{hint or ', expected a support (flowvi.supports)'}"
                )
        return cls(dict(parameters))

    @property
    def size(self) -> int:
        """D, the number of unconstrained reals."""
        return sum(support.size for support in self.supports.values())

    def constrain(self, z: Tensor) -> tuple[Values, Tensor]:
        """Unconstrained points (…, D) -> values (…, *shape) by name, and Σ ln|det| (…), in nats.

        Raises:
            ShapeError: the last dimension is not D.
        """
        if z.dim() == 0 or z.shape[-1] != self.size:
            raise ShapeError(f"unconstrained points of shape {tuple(z.shape)}: expected (…, {self.size})")
        pieces = z.split([support.size for support in self.supports.values()], dim=-1)
        both = [support.constrain(piece) for support, piece in zip(self.supports.values(), pieces, strict=True)]
        log_det = sum((each for _, each in both), start=torch.zeros_like(z[..., 0]))
        return self._named([value for value, _ in both]), log_det

    def unconstrain(self, values: Values) -> tuple[Tensor, Tensor]:
        """Values (…, *shape) -> z (…, D), and Σ ln|det| of the forward map (…), in nats; of use inside alone.

        Raises:
            ShapeError: other names or shapes.
        """
        both = [self.supports[name].unconstrain(value) for name, value in self._listed(values).items()]
        log_det = torch.stack(torch.broadcast_tensors(*(each for _, each in both))).sum(0)
        pieces = [z.expand(*log_det.shape, z.shape[-1]) for z, _ in both]
        return torch.cat(pieces, -1), log_det

    def contains(self, values: Values) -> Tensor:
        """Whether all values (…, *shape) lie inside their supports: (…), bool."""
        inside = [self.supports[name].contains(value) for name, value in self._listed(values).items()]
        return torch.stack(torch.broadcast_tensors(*inside)).all(0)

    def centre(self, shape: Size, like: Tensor) -> Values:
        """Values of z = 0, (*shape, *support.shape), of the dtype and device of `like`."""
        return self.constrain(like.new_zeros(*shape, self.size))[0]

    def _named(self, values: list[Tensor]) -> Values:
        return values[0] if self.plain else dict(zip(self.supports, values, strict=True))

    def _listed(self, values: Values) -> dict[str, Tensor]:
        if self.plain:
            if not isinstance(values, Tensor):
                raise ShapeError(f"found a {type(values).__name__}: expected a tensor (…, {self.size})")
            return {"z": values}
        if not isinstance(values, Mapping) or set(values) != set(self.supports):
            found = ", ".join(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
            raise ShapeError(f"found {found or 'nothing'}: expected a dict of {', '.join(self.supports)}")
        return {name: values[name] for name in self.supports}


class JointDistribution(Distribution):
    """The density of values y = f(z), z ~ q on R^D: ln p(y) = ln q(z) − Σ ln|det ∂y/∂z|, in nats; −inf outside.

    Points are (S…, D) tensors, or dicts of (S…, *shape) where parameters have names. The event_shape is (D,).

    Example:
        >>> import flowvi
        >>> from flowvi.inference.supports import positive
        >>> q = JointDistribution(flowvi.flows.Gaussian(2)(), Joint.of({"mu": real(), "tau": positive()}))
        >>> {name: draws.shape for name, draws in q.sample((5,)).items()}
        {'mu': torch.Size([5]), 'tau': torch.Size([5])}
        >>> q.log_prob({"mu": torch.zeros(2), "tau": torch.tensor([-1.0, 1.0])}).detach()
        tensor([   -inf, -1.8379])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (torch's own form)
    has_rsample = True

    def __init__(self, base: Any, joint: Joint) -> None:
        if tuple(base.event_shape) != (joint.size,):
            raise ShapeError(f"a distribution of event_shape {tuple(base.event_shape)}: expected ({joint.size},)")
        self.base, self.joint = base, joint
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def __repr__(self) -> str:
        return f"JointDistribution({self.joint.size if self.joint.plain else dict(self.joint.supports)})"

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Reparameterised samples, (S…, D) or by name (S…, *shape)."""
        return self.rsample_and_log_prob(sample_shape)[0]

    def sample(self, sample_shape: Any = ()) -> Any:
        """Samples without gradients, (S…, D) or by name (S…, *shape)."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample_and_log_prob(self, sample_shape: Any = (), *, path: bool = False) -> tuple[Any, Tensor]:
        """Reparameterised samples and their log density (S…), in one pass; `path` as flows take it."""
        along = {"path": True} if path else {}
        z, log_q = self.base.rsample_and_log_prob(Size(sample_shape), **along)
        values, log_det = self.joint.constrain(z)
        return values, log_q - log_det

    def log_prob(self, value: Any) -> Tensor:
        """ln p(value), (S…), in nats: −inf outside the supports, NaN where a value is.

        Raises:
            ShapeError: other names or shapes.
        """
        inside = self.joint.contains(value)
        instead = self.joint.centre(Size(), next(iter(self.joint._listed(value).values())))
        # Points outside are replaced before the inverse, whose NaN would reach the gradient through `where`.
        z, log_det = self.joint.unconstrain(self._where(inside, value, instead))
        log_p: Callable[[Tensor], Tensor] = self.base.log_prob
        return torch.where(self._is_nan(value), math.nan, torch.where(inside, log_p(z) - log_det, -math.inf))

    def _is_nan(self, value: Any) -> Tensor:
        each = self.joint._listed(value).items()
        nan = [self.joint.supports[name]._flat(value).isnan().any(-1) for name, value in each]
        return torch.stack(torch.broadcast_tensors(*nan)).any(0)

    def _where(self, inside: Tensor, value: Any, instead: Any) -> Values:
        chosen = []
        for name, each in self.joint._listed(value).items():
            support = self.joint.supports[name]
            mask = inside.reshape(inside.shape + (1,) * len(support.shape))
            chosen.append(torch.where(mask, each, self.joint._listed(instead)[name]))
        return self.joint._named(chosen)
