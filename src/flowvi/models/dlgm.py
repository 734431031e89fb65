"""The deep latent Gaussian model (Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082) with flow posteriors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from flowvi.errors import ShapeError
from flowvi.models.likelihoods import Bernoulli, Likelihood
from flowvi.models.networks import Decoder, Encoder, Maxout

__all__ = ["DLGM", "BottomUpPosterior"]

Network = Callable[[int, int], nn.Module]
"""Makes a network of so many inputs and outputs."""


class DLGM(nn.Module):
    """p(x, z) = p(x|z_1)·p(z_1|z_2)…p(z_L), p(z_L) = N(0, I), and q(z|x) = q(z_1|x)·q(z_2|z_1)…, a flow each.

    With one layer it is the model of Rezende & Mohamed 2015, Section 6.2. z is one tensor, the layers side by
    side from the one next to x: (S…, batch…, Σ latents).

    Args:
        features: D, the number of pixels.
        latents: sizes of the stochastic layers, from the one next to x to the top.
        flow: makes the posterior of a layer, `flow(latents, context)`: any module that, called with a context
            (batch…, context), gives a distribution with `rsample_and_log_prob`.
        maxout: units of each deterministic layer before and after the window.
        likelihood: of x given the decoder's output; `Bernoulli` by default.
        encoder: makes the network features -> context; a maxout layer by default.
        decoder: makes the network latents[0] -> pixels' parameters; maxout and linear by default.
        precision: `32`, or `bf16` for encoder and decoder in bfloat16; flows and densities stay as they are.

    Raises:
        ShapeError: no latents, or a size that is not allowed.

    Example:
        >>> from flowvi.flows import Planar
        >>> model = DLGM(features=6, latents=[2], flow=Planar, maxout=(8, 4))
        >>> x = model.sample(3)
        >>> z, log_q = model.posterior(x).rsample_and_log_prob((5,))
        >>> z.shape, model.log_joint(x, z).shape
        (torch.Size([5, 3, 2]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        features: int,
        latents: Sequence[int],
        flow: Callable[[int, int], nn.Module],
        maxout: tuple[int, int] = (1600, 400),
        likelihood: Likelihood | None = None,
        encoder: Network | None = None,
        decoder: Network | None = None,
        precision: str = "32",
    ) -> None:
        super().__init__()
        if not latents or min(latents) < 1:
            raise ShapeError(f"latents = {list(latents)}: expected one or more sizes of at least 1")
        units, hidden = maxout
        self.features, self.latents = features, tuple(latents)
        self.likelihood: Likelihood = likelihood or Bernoulli()
        self.precision = precision
        lower, upper = self.latents[:-1], self.latents[1:]
        self.encoder = (encoder or (lambda i, o: Encoder(i, o, units)))(features, hidden)
        self.upper_encoders = nn.ModuleList(Maxout(size, units, hidden) for size in lower)
        self.flows = nn.ModuleList(flow(size, hidden) for size in self.latents)
        self.priors = nn.ModuleList(
            Decoder(above, 2 * size, hidden, units) for size, above in zip(lower, upper, strict=True)
        )
        make_decoder = decoder or (lambda i, o: Decoder(i, o, hidden, units))
        self.decoder = make_decoder(self.latents[0], self.likelihood.outputs(features))

    def posterior(self, x: Tensor) -> Any:
        """q(z | x), of batch_shape (batch…) and event_shape (Σ latents,), for x (batch…, features).

        The encoder runs once, however many samples are drawn.

        Raises:
            ShapeError: x of another width.
        """
        self._check(x)
        bottom = self.flows[0](self._network(self.encoder, x))
        if len(self.latents) == 1:
            return bottom
        return BottomUpPosterior(bottom, self._conditionals(), self.latents)

    def log_prior(self, z: Tensor) -> Tensor:
        """ln p(z) = ln p(z_L) + Σ_l ln p(z_l | z_{l+1}), (S…, batch…), in nats."""
        layers = self._split(z)
        log_p = _log_normal(layers[-1])
        for prior, layer, above in zip(self.priors, layers[:-1], layers[1:], strict=True):
            mean, log_scale = self._network(prior, above).chunk(2, dim=-1)
            log_p = log_p + _log_normal((layer - mean) * (-log_scale).exp()) - log_scale.sum(-1)
        return log_p

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """ln p(x | z), (S…, batch…), in nats, for x (batch…, features) and z (S…, batch…, Σ latents).

        Raises:
            ShapeError: x or z of another width.
        """
        self._check(x)
        return self.likelihood.log_prob(x, self._decode(self._split(z)[0]))

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """ln p(x, z), (S…, batch…), in nats."""
        return self.log_prior(z) + self.log_likelihood(x, z)

    def mean(self, z: Tensor) -> Tensor:
        """E[x | z], (…, features), for z (…, Σ latents)."""
        return self.likelihood.mean(self._decode(self._split(z)[0]))

    @torch.no_grad()
    def sample_prior(self, n: int) -> Tensor:
        """z ~ p(z), (n, Σ latents), from the global generator."""
        like = next(self.parameters())
        layers = [torch.randn(n, self.latents[-1], device=like.device, dtype=like.dtype)]
        for prior in reversed(self.priors):
            mean, log_scale = self._network(prior, layers[0]).chunk(2, dim=-1)
            layers.insert(0, mean + log_scale.exp() * torch.randn_like(mean))
        return torch.cat(layers, -1)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n images from the model: x ~ p(x | z), z ~ p(z), (n, features), from the global generator."""
        return self.simulate(n)[1]

    @torch.no_grad()
    def simulate(self, n: int) -> tuple[Tensor, Tensor]:
        """z ~ p(z), (n, Σ latents), and x ~ p(x | z), (n, features), from the global generator."""
        z = self.sample_prior(n)
        return z, self.likelihood.sample(self._decode(self._split(z)[0]))

    def start_at(self, mean: Tensor) -> None:
        """Set the decoder's output bias so that the model starts at the data's mean, (features,).

        A decoder of one's own stays as it is, unless it too has a linear layer `output` with a bias.
        """
        output = getattr(self.decoder, "output", None)
        if isinstance(output, nn.Linear) and output.bias is not None:
            with torch.no_grad():
                output.bias.copy_(self.likelihood.start_bias(mean))

    def _conditionals(self) -> list[Callable[[Tensor], Any]]:
        def conditional(encoder: nn.Module, flow: nn.Module) -> Callable[[Tensor], Any]:
            return lambda z: flow(self._network(encoder, z))

        return [conditional(e, f) for e, f in zip(self.upper_encoders, list(self.flows)[1:], strict=True)]

    def _decode(self, z: Tensor) -> Tensor:
        return self._network(self.decoder, z)

    def _check(self, x: Tensor) -> None:
        if x.shape[-1:] != (self.features,):
            raise ShapeError(f"x of shape {tuple(x.shape)}: expected (batch…, {self.features})")

    def _split(self, z: Tensor) -> tuple[Tensor, ...]:
        if z.shape[-1:] != (sum(self.latents),):
            raise ShapeError(f"z of shape {tuple(z.shape)}: expected (…, {sum(self.latents)})")
        layers: tuple[Tensor, ...] = z.split(self.latents, dim=-1)
        return layers

    def _network(self, network: nn.Module, x: Tensor) -> Tensor:
        out: Tensor
        with _autocast(x, self.precision):
            out = network(x)
        return out.to(x.dtype)


class BottomUpPosterior(Distribution):
    """q(z_1, …, z_L | x) = q(z_1|x)·q(z_2|z_1)…q(z_L|z_{L−1}), the layers side by side in one event.

    Args:
        bottom: q(z_1 | x).
        conditionals: for each further layer, the function from the layer below to its distribution.
        latents: sizes of the layers.

    Example:
        >>> from flowvi.flows import Gaussian
        >>> bottom, above = Gaussian(features=2), Gaussian(features=1, context=2)
        >>> q = BottomUpPosterior(bottom(), [above], latents=[2, 1])
        >>> q.rsample((5,)).shape, q.event_shape
        (torch.Size([5, 3]), torch.Size([3]))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (torch's own form)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, bottom: Any, conditionals: Iterable[Callable[[Tensor], Any]], latents: Sequence[int]) -> None:
        self.bottom, self.conditionals, self.latents = bottom, list(conditionals), list(latents)
        super().__init__(bottom.batch_shape, Size([sum(latents)]), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Reparameterised samples, (S…, batch…, Σ latents)."""
        return self.rsample_and_log_prob(sample_shape)[0]

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        """Reparameterised samples (S…, batch…, Σ latents) and their log density (S…, batch…), in nats."""
        return self._up(self.bottom.rsample_and_log_prob(Size(sample_shape)), lambda q, layer: q.rsample_and_log_prob())

    def push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Push standard normal noise (S…, batch…, Σ latents) through the layers: z and ln q(z)."""
        parts = noise.split(self.latents, dim=-1)
        return self._up(self.bottom.push(parts[0]), lambda q, layer: q.push(parts[layer]))

    def _up(
        self, bottom: tuple[Tensor, Tensor], draw: Callable[[Any, int], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        layers, log_q = [bottom[0]], bottom[1]
        for layer, conditional in enumerate(self.conditionals, start=1):
            z, log_q_layer = draw(conditional(layers[-1]), layer)
            layers.append(z)
            log_q = log_q + log_q_layer
        return torch.cat(layers, -1), log_q

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(value), (S…, batch…), in nats, for any point (S…, batch…, Σ latents).

        Raises:
            ShapeError: the last dimension is not Σ latents.
        """
        if value.shape[-1:] != self.event_shape:
            raise ShapeError(f"points of shape {tuple(value.shape)}: expected (…, {self.event_shape[0]})")
        layers = value.split(self.latents, dim=-1)
        log_q: Tensor = self.bottom.log_prob(layers[0])
        for conditional, below, layer in zip(self.conditionals, layers[:-1], layers[1:], strict=True):
            log_q = log_q + conditional(below).log_prob(layer)
        return log_q


def _log_normal(z: Tensor) -> Tensor:
    return -0.5 * z.square().sum(-1) - 0.5 * math.log(2 * math.pi) * z.shape[-1]


def _autocast(x: Tensor, precision: str) -> AbstractContextManager[Any]:
    return torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16")
