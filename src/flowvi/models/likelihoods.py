"""Likelihoods p(x | parameters), the parameters being a decoder's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from flowvi.kernels import bernoulli_log_prob

__all__ = ["LIKELIHOODS", "Bernoulli", "Likelihood", "LogitNormal"]


class Likelihood(Protocol):
    """What a model asks of its likelihood; the parameters are the decoder's output, (S…, batch…, outputs)."""

    def outputs(self, features: int) -> int:
        """How many numbers the decoder gives for `features` pixels."""
        ...

    def start_bias(self, mean: Tensor) -> Tensor:
        """The output bias, (outputs,), at which the model starts at the data's `mean`, (features,)."""
        ...

    def log_prob(self, x: Tensor, parameters: Tensor, /) -> Tensor:
        """ln p(x | parameters) in nats, (S…, batch…), for x (batch…, features)."""
        ...

    def mean(self, parameters: Tensor, /) -> Tensor:
        """E[x | parameters], (S…, batch…, features)."""
        ...

    def sample(self, parameters: Tensor, /) -> Tensor:
        """x ~ p(x | parameters), (S…, batch…, features), from the global generator."""
        ...


class Bernoulli:
    """Independent binary pixels, from logits: ln p(x) = Σ_d x_d·l_d − softplus(l_d).

    Example:
        >>> Bernoulli().log_prob(torch.tensor([1.0, 0.0]), logits=torch.zeros(2))  # 2 ln ½
        tensor(-1.3863)
    """

    def outputs(self, features: int) -> int:
        """How many numbers the decoder gives for `features` pixels."""
        return features

    def start_bias(self, mean: Tensor) -> Tensor:
        """The output bias, (features,), at which the model's mean is the data's `mean`, (features,).

        Means are held a hundredth away from 0 and 1, where the logit is infinite.
        """
        return torch.logit(mean, eps=0.01)

    def log_prob(self, x: Tensor, logits: Tensor) -> Tensor:
        """ln p(x | logits) in nats, (S…, batch…), for x (batch…, D) and logits (S…, batch…, D)."""
        return bernoulli_log_prob(x, logits)

    def mean(self, logits: Tensor) -> Tensor:
        """E[x | logits], of the logits' shape."""
        return logits.sigmoid()

    def sample(self, logits: Tensor) -> Tensor:
        """x ~ p(x | logits), of the logits' shape."""
        return torch.bernoulli(logits.sigmoid())


class LogitNormal:
    """Independent pixels in (0, 1) whose logit is normal: logit x_d ~ N(μ_d, σ_d²), σ_d = `FLOOR` + exp(l_d).

    The decoder gives μ, then l. The density is that of x itself, the logit's change of variables included:

        ln p(x) = Σ_d −((logit x_d − μ_d)/σ_d)²/2 − ln σ_d − ln(2π)/2 − ln(x_d (1 − x_d)).

    Images of 8 bits repeat 256 values, on which a scale may shrink, and the density grow, without bound. Noise that
    spreads each value over its 1/256 (`flowvi.data.Patches`) takes away the gain; the floor, the width of such a step
    where the logit is flattest, makes sure of it. Rezende & Mohamed 2015, Section 6.2, names the likelihood and gives
    no floor.

    Example:
        >>> x = torch.tensor([0.5, 0.5])
        >>> LogitNormal().log_prob(x, torch.tensor([0.0, 0.0, 5.0, 5.0]))
        tensor(-9.0655)
    """

    FLOOR = 1 / 64
    """The smallest scale of a logit: 1/256 times the logit's slope at ½, which is 4."""

    POINTS = 256
    """Quantiles over which `mean` is taken."""

    def outputs(self, features: int) -> int:
        """How many numbers the decoder gives for `features` pixels: a mean and a log scale for each."""
        return 2 * features

    def start_bias(self, mean: Tensor) -> Tensor:
        """The output bias, (2·features,), at which x has the data's `mean`, (features,), as its median and l = 0.

        Means are held a hundredth away from 0 and 1, where the logit is infinite.
        """
        return torch.cat([torch.logit(mean, eps=0.01), torch.zeros_like(mean)])

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """ln p(x | parameters) in nats, (S…, batch…), for x (batch…, D) in (0, 1) and parameters (S…, batch…, 2·D).

        It is NaN where x is 0 or 1.
        """
        mean, log_scale = self._split(parameters)
        ln_x, ln_rest = x.log(), (-x).log1p()
        z = (ln_x - ln_rest - mean) * (-log_scale).exp()
        volume = (ln_x + ln_rest).sum(-1) + 0.5 * math.log(2 * math.pi) * x.shape[-1]
        log_p: Tensor = -0.5 * z.square().sum(-1) - log_scale.sum(-1) - volume
        return log_p

    def mean(self, parameters: Tensor) -> Tensor:
        """E[x | parameters], (S…, batch…, D): the mean over 256 quantiles, right to 1/512 at every scale."""
        mean, log_scale = self._split(parameters)
        shares = (torch.arange(self.POINTS, device=mean.device, dtype=mean.dtype) + 0.5) / self.POINTS
        scale, total = log_scale.exp(), torch.zeros_like(mean)
        for quantile in torch.special.ndtri(shares).tolist():
            total += (mean + scale * quantile).sigmoid()
        return total / self.POINTS

    def sample(self, parameters: Tensor) -> Tensor:
        """x ~ p(x | parameters), (S…, batch…, D)."""
        mean, log_scale = self._split(parameters)
        return (mean + log_scale.exp() * torch.randn_like(mean)).sigmoid()

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Means, and logarithms of the scales."""
        mean, free = parameters.chunk(2, dim=-1)
        return mean, torch.logaddexp(free, free.new_tensor(math.log(self.FLOOR)))


LIKELIHOODS: Mapping[str, Callable[[], Likelihood]] = {"bernoulli": Bernoulli, "logit_normal": LogitNormal}
"""By the names that `flowvi.data.DATASETS` gives them."""
