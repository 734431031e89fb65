"""The free energy, its annealing and the importance-weighted bound, for any model of latents z and data x."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from flowvi.errors import ConfigError

__all__ = ["FreeEnergy", "LatentVariableModel", "annealing_weight", "free_energy"]

ANNEALINGS = "joint", "kl", "none"
OBJECTIVES = "elbo", "iwae"


class LatentVariableModel(Protocol):
    """What inference asks of a model."""

    def posterior(self, x: Tensor) -> Any:
        """q(z | x): a distribution with `rsample_and_log_prob`."""
        ...

    def log_prior(self, z: Tensor) -> Tensor:
        """ln p(z)."""
        ...

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """ln p(x | z)."""
        ...


@dataclass(frozen=True)
class FreeEnergy:
    """One Monte Carlo estimate for each datum, (batch,), in nats.

    Example:
        >>> one = torch.tensor([1.0])
        >>> FreeEnergy(loss=95 * one, log_q=-50 * one, log_prior=-55 * one, log_likelihood=-90 * one).value
        tensor([95.])
    """

    loss: Tensor
    """What training minimises: the annealed free energy, or minus the annealed importance-weighted bound."""
    log_q: Tensor
    """Mean over samples of ln q(z | x)."""
    log_prior: Tensor
    """Mean over samples of ln p(z)."""
    log_likelihood: Tensor
    """Mean over samples of ln p(x | z)."""

    @property
    def value(self) -> Tensor:
        """F(x) = E_q[ln q(z|x) − ln p(x, z)], without annealing."""
        return self.log_q - self.log_prior - self.log_likelihood


def annealing_weight(annealing: str, update: int, warmup: int) -> float:
    """β at an update (the first is 0).

    `joint`: min(1, 0.01 + t/warmup) (Rezende & Mohamed 2015, Eq. 20, warmup 10,000); `kl`: min(1, t/warmup),
    and 1 without a warm-up; `none`: 1.

    Raises:
        ConfigError: another word.

    Example:
        >>> annealing_weight("joint", update=5_000, warmup=10_000)
        0.51
    """
    _check("annealing", annealing, ANNEALINGS)
    if annealing == "none" or warmup <= 0:
        return 1.0
    return min(1.0, (0.01 if annealing == "joint" else 0.0) + update / warmup)


def free_energy(
    model: LatentVariableModel,
    x: Tensor,
    *,
    samples: int = 1,
    annealing: str = "none",
    beta: float | Tensor = 1.0,
    objective: str = "elbo",
    noise: Tensor | None = None,
) -> FreeEnergy:
    """Estimate the (annealed) free energy of each datum with reparameterised samples.

    With log weights  ℓ = −ln q + β·(ln p(z) + ln p(x|z))  under `joint` annealing (β on the whole joint, as
    the paper has it) and  ℓ = −β·(ln q − ln p(z)) + ln p(x|z)  under `kl`, the loss is −mean_k ℓ for `elbo`
    and −ln mean_k exp ℓ for `iwae` (Burda et al. 2015, arXiv:1509.00519, Eq. 8).

    Args:
        model: the model and its posterior.
        x: (batch, features).
        samples: k, drawn for each datum.
        annealing: `joint`, `kl` or `none`.
        beta: the weight at this update, see `annealing_weight`.
        objective: `elbo` or `iwae`.
        noise: standard normal noise, (k, batch, latents), to push through the posterior in place of its own.

    Returns:
        Estimates of shape (batch,), in nats.

    Raises:
        ConfigError: another annealing or objective.

    Example:
        >>> from flowvi.flows import Planar
        >>> from flowvi.models import DLGM
        >>> model = DLGM(features=6, latents=[2], flow=Planar, maxout=(8, 4))
        >>> x = model.sample(3)
        >>> free_energy(model, x, samples=5, annealing="kl", beta=0.1).loss.shape
        torch.Size([3])
    """
    _check("annealing", annealing, ANNEALINGS)
    _check("objective", objective, OBJECTIVES)
    posterior = model.posterior(x)
    z, log_q = posterior.rsample_and_log_prob((samples,)) if noise is None else posterior.push(noise)
    log_prior, log_likelihood = model.log_prior(z), model.log_likelihood(x, z)
    if annealing == "kl":
        log_weights = log_likelihood - beta * (log_q - log_prior)
    elif annealing == "joint":
        log_weights = beta * (log_prior + log_likelihood) - log_q
    else:
        log_weights = log_prior + log_likelihood - log_q
    bound = torch.logsumexp(log_weights, 0) - math.log(len(log_weights)) if objective == "iwae" else log_weights.mean(0)
    return FreeEnergy(-bound, log_q.mean(0), log_prior.mean(0), log_likelihood.mean(0))


def _check(name: str, word: str, allowed: tuple[str, ...]) -> None:
    if word not in allowed:
        raise ConfigError(f"{name} = {word!r}: allowed are {', '.join(allowed)}")
