"""A flow is a module that, called with a context, gives a distribution: a base pushed through chains of bijections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from flowvi.errors import ContextError, DataError, ShapeError
from flowvi.flows.fitting import fit_to
from flowvi.flows.path import along_path, score

__all__ = ["Chain", "DiagonalGaussian", "Flow", "FlowDistribution", "Link", "Part", "check_size"]


class Chain(Protocol):
    """K bijections as one: two pure functions of the points and of whatever conditions them.

    A chain that is linear in the points, without a shift, may say so by an attribute `linear`: moments then exist.
    """

    @property
    def conditioning_dims(self) -> int:
        """Trailing dimensions of `conditioning` that belong to one element of the batch."""
        ...

    def forward(self, z: Tensor, conditioning: Any) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image, (S, batch, D), and the log-determinant, (S, batch).

        `conditioning` is (batch or 1, conditioning dims), or None where nothing conditions the chain.
        """
        ...

    def inverse(self, z: Tensor, conditioning: Any) -> tuple[Tensor, Tensor]:
        """The preimage, (S, batch, D), and the log-determinant of the forward map there, (S, batch)."""
        ...


class Part(NamedTuple):
    """A chain, and what conditions it here: (batch…, conditioning dims), no batch where it is shared, or None."""

    chain: Chain
    conditioning: Tensor | None


class Link(nn.Module):
    """A chain, and the module that makes its conditioning out of the context; None where nothing conditions it.

    Args:
        chain: the bijections.
        conditioner: called with the context, (batch…, context) or None.

    Example:
        >>> from flowvi.flows import Planar
        >>> part = Planar(features=2, length=3).links[0](None)
        >>> part.conditioning.shape
        torch.Size([3, 5])
    """

    def __init__(self, chain: Chain, conditioner: nn.Module | None = None) -> None:
        super().__init__()
        self.chain = chain
        self.conditioner = conditioner

    def forward(self, context: Tensor | None) -> Part:
        """The chain as it is given `context`."""
        return Part(self.chain, None if self.conditioner is None else self.conditioner(context))


class Flow(nn.Module):
    """A diagonal Gaussian pushed through chains of bijections.

    Called with a context `(batch…, context)` it gives a distribution of batch_shape `(batch…)` and event_shape
    `(features,)`; without one (`context=0`) the base and the chains are learned directly, starting at N(0, I).

    Args:
        features: D, the number of dimensions.
        context: width of the context; 0 for none.
        links: the chains with their conditioners, the first next to the base; none leave the base alone.

    Raises:
        ShapeError: features below 1 or context below 0.

    Example:
        >>> Flow(features=3, context=5)(torch.zeros(2, 5))
        FlowDistribution(batch_shape: (2,), event_shape: (3,))
    """

    built: dict[str, Any] | None = None
    """What `flowvi.flows.build` was called with, so that it can be made again; None where a constructor was."""

    def __init__(self, features: int, context: int = 0, links: Iterable[Link] = ()) -> None:
        super().__init__()
        self.features = check_size("features", features, 1)
        self.context = check_size("context", context, 0)
        self.base = DiagonalGaussian(features, context)
        self.links = nn.ModuleList(links)

    def forward(self, context: Tensor | None = None) -> FlowDistribution:
        """The distribution given `context`, (batch…, context) or None.

        Raises:
            ContextError: a context that is missing, unexpected, or of another width or dtype.
        """
        self._check(context)
        mean, log_scale = self.base(context)
        return FlowDistribution(mean, log_scale, [link(context) for link in self.links])

    def fit_to(self, samples: Tensor, context: Tensor | None = None, **settings: Any) -> list[float]:
        """Fit the flow to `samples`, (N, D), by maximum likelihood: see `flowvi.flows.fit_to`."""
        return fit_to(self, samples, context, **settings)

    def _check(self, context: Tensor | None) -> None:
        if context is None:
            if self.context:
                raise ContextError(f"this flow needs a context of shape (batch…, {self.context}): none was given")
            return
        if not self.context:
            raise ContextError(f"this flow takes no context: found one of shape {tuple(context.shape)}")
        if context.dim() == 0 or context.shape[-1] != self.context:
            raise ContextError(f"context of shape {tuple(context.shape)}: expected (batch…, {self.context})")
        dtype = next(self.base.parameters()).dtype
        if context.dtype != dtype:
            raise ContextError(f"context of {context.dtype}, flow of {dtype}: convert one of them")


class DiagonalGaussian(nn.Module):
    """The base: mean and ln σ from a linear head on the context, or learned and starting at N(0, I)."""

    def __init__(self, features: int, context: int) -> None:
        super().__init__()
        if context:
            self.head = nn.Linear(context, 2 * features)
        else:
            self.location = nn.Parameter(torch.zeros(2 * features))

    def forward(self, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and ln σ, each (batch…, features)."""
        # under autocast the head is a network's, and gives bfloat16
        both = self.location if context is None else self.head(context).to(self.head.weight.dtype)
        mean, log_scale = both.chunk(2, dim=-1)
        return mean, log_scale


class FlowDistribution(Distribution):
    """The density of z = f(z0), z0 ~ N(mean, diag σ²): ln q(z) = ln q0(z0) − ln|det ∂f/∂z0|, in nats.

    (Rezende & Mohamed 2015, Eq. 5 to 7.) Sampling needs no inverse; `log_prob` of any point uses the chain's
    exact inverse.

    Args:
        mean: (batch…, D), of the base.
        log_scale: (batch…, D), ln σ of the base.
        parts: the chains, the first next to the base, each with what it takes beside the points: (batch…,
            conditioning dims), its batch dimensions broadcast against those of the base; none where it is shared.
        validate_args: as in torch; `log_prob` then refuses points of another size and points that are NaN.

    Example:
        >>> q = FlowDistribution(torch.zeros(2), torch.zeros(2))
        >>> q.log_prob(torch.zeros(2))
        tensor(-1.8379)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (torch's own form)
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        mean: Tensor,
        log_scale: Tensor,
        parts: Sequence[Part] = (),
        validate_args: bool | None = None,
    ) -> None:
        self.base_mean, self.base_log_scale = torch.broadcast_tensors(mean, log_scale)
        self.parts = tuple(parts)
        super().__init__(self.base_mean.shape[:-1], self.base_mean.shape[-1:], validate_args=validate_args)

    def __repr__(self) -> str:
        return f"FlowDistribution(batch_shape: {tuple(self.batch_shape)}, event_shape: {tuple(self.event_shape)})"

    def expand(self, batch_shape: Any, _instance: Any = None) -> FlowDistribution:
        """The same distribution with its batch dimensions expanded, without copying."""
        get_instance: Callable[..., FlowDistribution] = self._get_checked_instance  # not annotated in torch
        new = get_instance(FlowDistribution, _instance)
        batch_shape = Size(batch_shape)
        new.base_mean = self.base_mean.expand(batch_shape + self.event_shape)
        new.base_log_scale = self.base_log_scale.expand(batch_shape + self.event_shape)
        new.parts = self.parts  # broadcast when applied
        super(FlowDistribution, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        """The mean, (batch…, D), of a Gaussian; other chains have none in closed form (NotImplementedError)."""
        return self._through(self.base_mean) if self._linear else super().mean

    @property
    def variance(self) -> Tensor:
        """The variances, (batch…, D), of a Gaussian; other chains have none in closed form (NotImplementedError)."""
        if not self._linear:
            return super().variance
        if not self.parts:
            return torch.exp(2 * self.base_log_scale)
        scale = torch.diag_embed(self.base_log_scale.exp()).movedim(-1, 0)  # (D, batch…, D)
        variance: Tensor = self._through(scale).square().sum(0)
        return variance

    @property
    def _linear(self) -> bool:
        return all(getattr(part.chain, "linear", False) for part in self.parts)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Reparameterised samples, (S…, batch…, D)."""
        return self.rsample_and_log_prob(sample_shape)[0]

    def rsample_and_log_prob(self, sample_shape: Any = (), *, path: bool = False) -> tuple[Tensor, Tensor]:
        """Reparameterised samples (S…, batch…, D) and their log density (S…, batch…), in one pass.

        Args:
            sample_shape: S….
            path: whether the log density's gradient by the parameters goes through the samples alone, which leaves out
                a part of expectation 0 (Roeder et al. 2017, arXiv:1703.09194). The values are the same.
        """
        noise = self._noise(sample_shape)
        z, log_q = self.push(noise)
        return z, along_path(self, noise, z, log_q) if path else log_q

    def sample_and_score(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor, Tensor]:
        """Reparameterised samples z (S…, batch…, D), ln q(z) (S…, batch…), and the score ∇_z ln q(z), a constant."""
        noise = self._noise(sample_shape)
        z, log_q = self.push(noise)
        return z, log_q, score(self, noise, z.detach())

    def push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Push standard normal noise (S…, batch…, D) through base and chain: z and ln q(z).

        Raises:
            ShapeError: the last dimension is not D.
        """
        self._check_size(noise)
        z = self.base_mean + self.base_log_scale.exp() * noise
        log_q = self._log_base(noise)
        for chain, conditioning in self.parts:
            z, log_det = self._apply(chain.forward, z, chain, conditioning)
            log_q = log_q - log_det
        return z, log_q

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(value), (S…, batch…), in nats; `value` (S…, batch…, D) may be any point.

        Raises:
            ShapeError: the last dimension is not D.
            DataError: a value of another dtype.
            ValueError: a value that is NaN, unless validation is off.
        """
        return self.pull(value)[1]

    def pull(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `push`: the noise (S…, batch…, D) that a value stands for, and ln q(value) (S…, batch…).

        Raises what `log_prob` raises.
        """
        self._check_size(value)
        if self._validate_args and value.numel():  # torch's check cannot take an empty tensor
            self._validate_sample(value)
        z = value.expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape) + self.event_shape)
        total: Tensor | float = 0.0
        for chain, conditioning in reversed(self.parts):
            z, log_det = self._apply(chain.inverse, z, chain, conditioning)
            total = total + log_det
        noise = (z - self.base_mean) * (-self.base_log_scale).exp()
        return noise, self._log_base(noise) - total

    def _through(self, z: Tensor) -> Tensor:
        for chain, conditioning in self.parts:
            z, _ = self._apply(chain.forward, z, chain, conditioning)
        return z

    def _noise(self, sample_shape: Any) -> Tensor:
        shape = self._extended_shape(Size(sample_shape))
        return torch.randn(shape, dtype=self.base_mean.dtype, device=self.base_mean.device)

    def _check_size(self, points: Tensor) -> None:
        if points.dim() == 0 or points.shape[-1:] != self.event_shape:
            raise ShapeError(f"points of shape {tuple(points.shape)}: expected (…, {self.event_shape[0]})")
        if points.dtype != self.base_mean.dtype:
            raise DataError(f"points of {points.dtype}, flow of {self.base_mean.dtype}: convert one of them")

    def _log_base(self, noise: Tensor) -> Tensor:
        constant = 0.5 * math.log(2 * math.pi) * self.event_shape[0]
        log_q: Tensor = -0.5 * noise.square().sum(-1) - self.base_log_scale.sum(-1) - constant
        return log_q

    def _apply(self, direction: Any, z: Tensor, chain: Chain, conditioning: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply one direction of a chain to z, (S…, batch…, D), in the chain's own layout (S, batch, D)."""
        points, conditioning = self.arrange(z, chain, conditioning)
        out, log_det = direction(points, conditioning)
        return out.reshape(z.shape), log_det.reshape(z.shape[:-1])

    def arrange(self, z: Tensor, chain: Chain, conditioning: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Points (S…, batch…, D) and a part's conditioning in the layout that its chain takes: (S, batch, D)."""
        rows = 1
        if conditioning is not None:
            own = conditioning.shape[-chain.conditioning_dims :]
            if conditioning.shape[: -len(own)].numel() > 1:  # else it is shared by all points
                # wider than batch_shape where z was broadcast against it
                batch = z.shape[-1 - len(self.batch_shape) : -1]
                conditioning = conditioning.expand(*batch, *own)
            conditioning = conditioning.reshape(-1, *own)
            rows = len(conditioning)
        # an empty batch too goes through the chain: its parameters have gradients, of 0, which other processes wait for
        return z.reshape(-1 if rows else 1, rows, z.shape[-1]), conditioning


def check_size(name: str, value: Any, least: int) -> int:
    """`value` if it is a whole number of at least `least`.

    Raises:
        ShapeError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ShapeError(f"{name} = {value!r}: expected a whole number of at least {least}")
    return value
