"""The ELBO of a posterior by fresh draws, with its standard error, and what it says where a density is not finite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowvi.inference.fitting.density import Density

__all__ = ["ELBO", "elbo", "elbo_of_weights"]

_ROWS = 10_000


@dataclass(frozen=True)
class ELBO:
    """E_q[ln f − ln q] in nats: a mean over draws, as honest as they are.

    Example:
        >>> elbo_of_weights(torch.tensor([1.0, 2.0, -torch.inf, 3.0])).mean
        -inf
    """

    mean: float
    """−inf or NaN where any draw's log density is."""
    se: float
    inside: float
    """The ELBO of q restricted to where the log density is finite and normalised there: the mean over these draws plus
    ln of their share. It is `mean` where all are finite, and what fits are compared by."""
    share: float
    """The share of draws of finite log density."""


def elbo(posterior: Any, density: Density, draws: int, power: float = 1.0) -> ELBO:
    """The ELBO of a distribution over unconstrained points by `draws` fresh draws, from the global generator.

    With a power, that of the density to this power.
    """
    weights = []
    with torch.no_grad():
        for start in range(0, draws, _ROWS):
            z, log_q = posterior.rsample_and_log_prob((min(_ROWS, draws - start),))
            weights.append(power * density(z) - log_q)
    return elbo_of_weights(torch.cat(weights))


def elbo_of_weights(log_weights: Tensor) -> ELBO:
    """From ln f − ln q at draws, (n,)."""
    log_weights = log_weights.detach().double()
    good = log_weights[log_weights.isfinite()]
    share = len(good) / len(log_weights)
    if not len(good):
        return ELBO(log_weights.mean().item(), math.nan, -math.inf, 0.0)
    se = (good.std(correction=0) / math.sqrt(len(good))).item()
    inside = good.mean().item() + math.log(share)
    return ELBO(inside if share == 1 else log_weights.mean().item(), se, inside, share)
