"""Importance-weighted bounds L_k, streamed: the mean over disjoint groups of k weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowvi.errors import ConfigError

__all__ = ["Bound", "Groups"]


@dataclass(frozen=True)
class Bound:
    """L_k = E[ln (1/k) Σ_{i≤k} w_i] ≤ ln p(x) for each datum (Burda et al. 2015, arXiv:1509.00519, Eq. 8), in nats.

    Example:
        >>> Bound(k=5, groups=40, value=torch.tensor([-87.0]), se=torch.tensor([0.1])).value
        tensor([-87.])
    """

    k: int
    groups: int
    """How many disjoint groups of k samples it is the mean of."""
    value: Tensor
    """(batch,), float64. L_1 is −F; L_k grows with k, in expectation, towards ln p(x)."""
    se: Tensor
    """Standard error of `value` over the groups; NaN for a single group."""


class Groups:
    """Gathers L_k from chunks of log weights (s, batch) of any size; weights after the last full group are left out.

    Args:
        k: weights in a group.
        samples: S, how many weights will come.

    Raises:
        ConfigError: k is not between 1 and S.
    """

    def __init__(self, k: int, samples: int) -> None:
        if not 1 <= k <= samples:
            raise ConfigError(f"a bound of k = {k}: expected from 1 to the number of samples, {samples}")
        self.k = k
        self._open = 0  # weights in the group that is not full yet
        self._log_sum: Tensor | None = None  # ln of their sum
        self._count = 0
        self._mean: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0  # Σ (bound − mean)²

    def add(self, log_weights: Tensor) -> None:
        """Take in a chunk, (s, batch), float64."""
        head = min(len(log_weights), self.k - self._open) if self._open else 0
        if head:
            self._begin(log_weights[:head])
        full = (len(log_weights) - head) // self.k
        if full:
            body = log_weights[head : head + full * self.k]
            self._close(torch.logsumexp(body.unflatten(0, (full, self.k)), 1))
        if rest := len(log_weights) - head - full * self.k:
            self._begin(log_weights[-rest:])

    def bound(self) -> Bound:
        """The mean over the groups so far."""
        assert isinstance(self._mean, Tensor) and isinstance(self._squares, Tensor)  # k ≤ S: there is a group
        error = (self._squares / ((self._count - 1) * self._count or math.nan)).sqrt()
        return Bound(self.k, self._count, self._mean, error)

    def _begin(self, log_weights: Tensor) -> None:
        log_sum = torch.logsumexp(log_weights, 0)
        self._log_sum = log_sum if self._log_sum is None else torch.logaddexp(self._log_sum, log_sum)
        self._open += len(log_weights)
        if self._open == self.k:
            self._close(self._log_sum[None])
            self._open, self._log_sum = 0, None

    def _close(self, log_sums: Tensor) -> None:
        """Merge the bounds of full groups, (n, batch), into mean and squares (Chan et al. 1983)."""
        bounds = log_sums - math.log(self.k)
        n, mean = len(bounds), bounds.mean(0)
        total, apart = self._count + n, mean - self._mean
        self._squares = self._squares + (bounds - mean).square().sum(0) + apart.square() * (self._count * n / total)
        self._mean = self._mean + apart * (n / total)
        self._count = total
