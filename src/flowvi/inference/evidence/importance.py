"""The evidence ln p(x) by importance sampling from the posterior, any number of samples in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowvi.errors import ConfigError
from flowvi.inference.evidence.bounds import Bound, Groups
from flowvi.inference.evidence.pareto import Tail

__all__ = ["Evidence", "importance_sampling", "of_log_weights"]


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
    samples: int | None = None
    """S."""
    k_hat: Tensor | None = None
    """The Pareto shape k̂ of the weights' tail, where it was asked for; to be judged by `k_hat_limit`."""
    bounds: Mapping[int, Bound] = field(default_factory=dict)
    """The importance-weighted bounds that were asked for, by k."""

    @property
    def kl(self) -> Tensor:
        """KL(q(z|x) ‖ p(z|x)) = F(x) + ln p(x); with ln p̂ in place of ln p it is biased low."""
        return self.free_energy + self.log_evidence

    @property
    def log_evidence_se(self) -> Tensor:
        """Standard error of ln p̂ by the delta method, sd(w)/(√S·mean w); NaN for S = 1 or where S is not known.

        In terms of the effective samples its square is (S/ESS − 1)/(S − 1). It says nothing of regions that no
        sample has met, and it means nothing where k̂ is above its limit.
        """
        if self.samples is None:
            return torch.full_like(self.log_evidence, torch.nan)
        return relative_error(self.effective_samples, self.samples)


def relative_error(effective_samples: Tensor, samples: int) -> Tensor:
    """Standard error of ln mean w, from (Σw)²/Σw² of so many weights: √((S/ESS − 1)/(S − 1)); NaN for one weight."""
    return ((samples / effective_samples - 1).clamp(min=0) / (samples - 1 or math.nan)).sqrt()


@torch.no_grad()
def importance_sampling(
    log_joint: Callable[[Tensor], Tensor],
    posterior: Any,
    samples: int,
    rows: int = 5000,
    *,
    k_hat: bool = False,
    bounds: Sequence[int] = (),
) -> Evidence:
    """Estimate free energy and evidence from draws of the posterior (Rezende & Mohamed 2015, Section 6.2).

    Everything is streamed: at most `rows` (sample, datum) pairs, or one sample of every datum, are drawn at a time.
    What is kept from chunk to chunk are sums, and for k̂ the 3√S largest weights of each datum.

    Args:
        log_joint: z (s, batch, D) -> ln p(x, z), (s, batch).
        posterior: q(z | x), of batch_shape (batch,), with `rsample_and_log_prob`.
        samples: S.
        rows: pairs of sample and datum in one chunk.
        k_hat: also k̂ of the weights' tail.
        bounds: each k whose importance-weighted bound is wanted, from the same weights.

    Returns:
        Estimates of shape (batch,). A weight that is NaN makes its datum's estimates NaN.

    Raises:
        ConfigError: samples below 1, or a k that is not between 1 and S.

    Example:
        With the exact posterior every weight is p(x), here 1:

        >>> from flowvi.flows import Gaussian
        >>> q = Gaussian(features=2)().expand((3,))
        >>> evidence = importance_sampling(q.log_prob, q, samples=10, bounds=[5])
        >>> torch.allclose(evidence.log_evidence, torch.zeros(3).double(), atol=1e-5)
        True
        >>> evidence.bounds[5].value.shape
        torch.Size([3])
    """
    if samples < 1:
        raise ConfigError(f"samples = {samples}: expected at least 1")
    chunk = max(1, rows // max(1, posterior.batch_shape.numel()))

    def draw(start: int) -> Tensor:
        z, log_q = posterior.rsample_and_log_prob((min(chunk, samples - start),))
        log_weights: Tensor = log_joint(z) - log_q
        return log_weights

    return of_log_weights(map(draw, range(0, samples, chunk)), samples, k_hat=k_hat, bounds=bounds)


@torch.no_grad()
def of_log_weights(
    chunks: Iterable[Tensor], samples: int, *, k_hat: bool = False, bounds: Sequence[int] = ()
) -> Evidence:
    """The estimates of `importance_sampling` from log weights that are there already, or come in chunks.

    Args:
        chunks: log weights, (s, batch) each, S samples in all; summed in float64.
        samples: S.
        k_hat: also k̂ of the weights' tail.
        bounds: each k whose importance-weighted bound is wanted.

    Raises:
        ConfigError: samples below 1, or a k that is not between 1 and S.

    Example:
        >>> of_log_weights([torch.zeros(6, 2), torch.zeros(4, 2)], 10).effective_samples.round(decimals=6)
        tensor([10., 10.], dtype=torch.float64)
    """
    if samples < 1:
        raise ConfigError(f"samples = {samples}: expected at least 1")
    tail = Tail(samples) if k_hat else None
    groups = [Groups(k, samples) for k in bounds]
    streams: _Streams | None = None
    for chunk in chunks:
        log_weights = chunk.double()
        now = _Streams.of(log_weights)
        streams = now if streams is None else streams.plus(now)
        for group in groups:
            group.add(log_weights)
        if tail:
            tail.add(log_weights)
    assert streams is not None  # samples is at least 1
    return Evidence(
        *streams.estimates(samples), samples, tail.k_hat() if tail else None, {g.k: g.bound() for g in groups}
    )


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

    def estimates(self, samples: int) -> tuple[Tensor, Tensor, Tensor]:
        """Free energy, ln p̂ and effective samples."""
        return (
            -self.total / samples,
            self.log_sum - math.log(samples),
            (2 * self.log_sum - self.log_sum_squares).exp(),
        )
