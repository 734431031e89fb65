"""An amortised posterior judged on rows of context: its ELBO, and what importance weights say of each row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowvi.inference.evidence import k_hat_limit, of_log_weights
from flowvi.inference.fitting.amortised.density import RowDensity
from flowvi.inference.fitting.amortised.posterior import Amortised
from flowvi.inference.fitting.verdict import DISTANCE, TAIL

__all__ = ["AverageELBO", "RowEvidence", "average_elbo", "log_weights", "weigh_rows"]

_POINTS = 20_000  # at a time
_PRINTED = 20
_LACKING = 10.0  # q is below the density over this


@dataclass(frozen=True)
class AverageELBO:
    """The ELBO of each of N data sets, in nats, and their mean.

    Where the log density of some draws is not finite it is that of the posterior cut off there.

    Example:
        >>> AverageELBO(torch.tensor([-1.0, -3.0]), torch.tensor([0.3, 0.4]), 100).mean
        -2.0
    """

    rows: Tensor
    """(N,), float64."""
    spread: Tensor
    """(N,): the standard deviation of each one's log weights."""
    draws: int
    """For each."""

    @property
    def mean(self) -> float:
        """Over the data sets."""
        return self.rows.mean().item()

    @property
    def se(self) -> float:
        """Of the mean for these very data sets: that of the draws."""
        total: float = self.spread.norm().item()
        return total / len(self.spread) / math.sqrt(self.draws)

    def gain(self, other: AverageELBO) -> tuple[float, float]:
        """How much higher this mean is, and the standard error of the paired differences over data sets."""
        apart = self.rows - other.rows
        return apart.mean().item(), (apart.std() / math.sqrt(len(apart))).item()


@dataclass(frozen=True)
class RowEvidence:
    """ln Z of each of N data sets, in nats, by importance sampling from their posteriors; all (N,).

    `print` shows a row for each of the first 20.
    """

    log_evidence: Tensor
    """float64; NaN where a draw's log density is NaN or +inf."""
    log_evidence_se: Tensor
    """By the delta method; it means nothing where k̂ is above its limit."""
    k_hat: Tensor
    """The Pareto shape of the weights' tail (Vehtari et al. 2024, arXiv:1507.02646)."""
    effective: Tensor
    """Kong's effective sample size, as a share of the draws."""
    distance: Tensor
    """Total variation between posterior and density, ½ E_q|f/(Z q) − 1|, as far as the draws reach."""
    lacking: Tensor
    """The share of the mass that lies where the posterior has less than a tenth of it, as far as the draws reach."""
    outside: Tensor
    """bool: whether the row lies outside the range of those that the posterior was trained on."""
    draws: int
    """For each."""

    @property
    def heavy(self) -> Tensor:
        """Whether k̂ is above its limit, or no number, by a tail that matters for the draws (`TAIL`): bool, (N,)."""
        matters = ~((self.lacking <= TAIL) & (self.distance <= DISTANCE[0]))
        return ~(self.k_hat <= k_hat_limit(self.draws)) & matters

    def __str__(self) -> str:
        lines = [f"{'row':>5}{'ln Z':>13}{'se':>9}{'k̂':>8}{'effective':>11}"]
        for i in range(min(_PRINTED, len(self.k_hat))):
            numbers = f"{self.log_evidence[i]:>13.4f}{self.log_evidence_se[i]:>9.4f}{self.k_hat[i]:>7.2f}"
            marks = ["k̂ above its limit: ln Z is not to be relied on"] * bool(self.heavy[i])
            marks += ["outside the range of the training rows: nothing is known of the fit here"] * bool(
                self.outside[i]
            )
            lines.append(f"{i:>5}{numbers}{100 * self.effective[i]:>9.0f} %  {'; '.join(marks)}".rstrip())
        if len(self.k_hat) > _PRINTED:
            lines.append(f"… and {len(self.k_hat) - _PRINTED} more")
        return "\n".join(lines)


@torch.no_grad()
def log_weights(module: Amortised, density: RowDensity, context: Tensor, draws: int) -> Tensor:
    """ln f − ln q at fresh draws for each row of context (N, C): (draws, N), float64."""
    q, chunk = module(context), max(1, _POINTS // len(context))
    found = []
    for start in range(0, draws, chunk):
        z, log_q = q.rsample_and_log_prob((min(chunk, draws - start),))
        found.append(density.at(z, context).double() - log_q.double())
    return torch.cat(found)


def average_elbo(module: Amortised, density: RowDensity, context: Tensor, draws: int) -> AverageELBO:
    """The ELBO of each row of context (N, C) by so many draws."""
    found = log_weights(module, density, context, draws)
    good = found.isfinite()
    count = good.sum(0)
    mean = torch.where(good, found, 0.0).sum(0) / count
    square = torch.where(good, found - mean, 0.0).square().sum(0) / count
    inside = torch.where(count > 0, mean + (count / draws).log(), -math.inf)
    return AverageELBO(inside, square.sqrt(), draws)


def weigh_rows(module: Amortised, density: RowDensity, context: Tensor, draws: int, outside: Tensor) -> RowEvidence:
    """ln Z of each row of context (N, C), with what its weights say of the posterior there."""
    parts = [
        _weighed(log_weights(module, density, rows, draws), draws)
        for rows in context.split(max(1, 50 * _POINTS // draws))
    ]
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return RowEvidence(**columns, outside=outside, draws=draws)


def _weighed(weights: Tensor, draws: int) -> dict[str, Tensor]:
    undefined = (weights.isnan() | (weights == math.inf)).any(0)
    weights = torch.where(weights.isfinite(), weights, -math.inf)
    found = of_log_weights([weights], draws, k_hat=True)
    assert found.k_hat is not None
    share = (weights - found.log_evidence).exp()
    return {
        "log_evidence": torch.where(undefined, math.nan, found.log_evidence),
        "log_evidence_se": found.log_evidence_se,
        "k_hat": found.k_hat,
        "effective": found.effective_samples / draws,
        "distance": 0.5 * (share - 1).abs().mean(0),
        "lacking": torch.where(share > _LACKING, share, 0.0).mean(0),
    }
