"""The evidence ln p(x) by importance sampling from the posterior, any number of samples in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from flowvi.errors import ConfigError

__all__ = ["Evidence", "importance_sampling"]


@dataclass(frozen=True)
class Evidence:
    """Estimates for each datum, (batch,), float64, in nats, all from the same weights w = p(x, z)/q(z|x).

    Example:
        >>> one = torch.tensor([1.0])
        >>> Evidence(free_energy=90 * one, log_evidence=-87 * one, effective_samples=20 * one).kl
        tensor([3.])
    """

    free_energy: Tensor
    """F(x) = −E_q[ln w]: the mean over all samples."""
    log_evidence: Tensor
    """ln p̂(x) = ln mean w. Its expectation is a lower bound of ln p(x) (Burda et al. 2015, Theorem 1)."""
    effective_samples: Tensor
    """(Σw)²/Σw² (Kong 1992), between 1 and the number of samples."""

    @property
    def kl(self) -> Tensor:
        """KL(q(z|x) ‖ p(z|x)) = F(x) + ln p(x); with ln p̂ in place of ln p it is biased low."""
        return self.free_energy + self.log_evidence


@torch.no_grad()
def importance_sampling(
    log_joint: Callable[[Tensor], Tensor], posterior: Any, samples: int, rows: int = 5000
) -> Evidence:
    """Estimate free energy and evidence from draws of the posterior (Rezende & Mohamed 2015, Section 6.2).

    Sums are streamed: at most `rows` (sample, datum) pairs, or one sample of every datum, exist at a time.

    Args:
        log_joint: z (s, batch, D) -> ln p(x, z), (s, batch).
        posterior: q(z | x), of batch_shape (batch,), with `rsample_and_log_prob`.
        samples: S.
        rows: pairs of sample and datum in one chunk.

    Returns:
        Estimates of shape (batch,). A weight that is NaN makes its datum's estimates NaN.

    Raises:
        ConfigError: samples below 1.

    Example:
        With the exact posterior every weight is p(x), here 1:

        >>> from flowvi.flows import Gaussian
        >>> q = Gaussian(features=2)().expand((3,))
        >>> evidence = importance_sampling(q.log_prob, q, samples=10)
        >>> torch.allclose(evidence.log_evidence, torch.zeros(3).double(), atol=1e-5)
        True
    """
    if samples < 1:
        raise ConfigError(f"samples = {samples}: expected at least 1")
    chunk = max(1, rows // max(1, posterior.batch_shape.numel()))

    def draw(start: int) -> _Streams:
        z, log_q = posterior.rsample_and_log_prob((min(chunk, samples - start),))
        return _Streams.of((log_joint(z) - log_q).double())

    return reduce(_Streams.plus, map(draw, range(0, samples, chunk))).evidence(samples)


@dataclass(frozen=True)
class _Streams:
    """Running Σ ln w, ln Σ w and ln Σ w²."""

    total: Tensor
    log_sum: Tensor
    log_sum_squares: Tensor

    @classmethod
    def of(cls, log_weights: Tensor) -> _Streams:
        return cls(log_weights.sum(0), torch.logsumexp(log_weights, 0), torch.logsumexp(2 * log_weights, 0))

    def plus(self, other: _Streams) -> _Streams:
        return _Streams(
            self.total + other.total,
            torch.logaddexp(self.log_sum, other.log_sum),
            torch.logaddexp(self.log_sum_squares, other.log_sum_squares),
        )

    def evidence(self, samples: int) -> Evidence:
        return Evidence(
            -self.total / samples,
            self.log_sum - math.log(samples),
            (2 * self.log_sum - self.log_sum_squares).exp(),
        )
