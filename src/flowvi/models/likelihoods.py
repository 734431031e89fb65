"""Likelihoods p(x | parameters), the parameters being a decoder's output."""

from __future__ import annotations

import torch
from torch import Tensor

from flowvi.kernels import bernoulli_log_prob

__all__ = ["Bernoulli"]


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
