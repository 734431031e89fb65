"""k̂, the shape of a generalised Pareto distribution fitted to the largest importance weights.

Vehtari, Simpson, Gelman, Yao & Gabry, *Pareto Smoothed Importance Sampling* (JMLR 2024, arXiv:1507.02646). The fit is
that of the package arviz-stats.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Tail", "arviz", "k_hat_limit", "pareto_k_hat", "tail_size"]

_SMALLEST = 25
"""Weights below which the tail, a fifth of them, has fewer than the five that the fit wants."""


def k_hat_limit(samples: int) -> float:
    """The k̂ up to which S weights can be trusted: min(1 − 1/log₁₀ S, 0.7) (Vehtari et al. 2024, Section 3.2.4).

    Example:
        >>> round(k_hat_limit(200), 3), k_hat_limit(10_000)
        (0.565, 0.7)
    """
    return min(1 - 1 / math.log10(samples), 0.7) if samples > 1 else -math.inf


def pareto_k_hat(log_weights: Tensor) -> Tensor:
    """k̂ of each column of log weights, (S, batch) -> (batch,), float64.

    It is −inf where the tail's weights are all equal, +inf where all but a few of them are nought beside the largest,
    and NaN for a weight that is NaN or infinite, for no weight above nought, and for S below 25.

    Example:
        With u uniform on (0, 1), the weights u^−k have the tail k:

        >>> u = (torch.arange(10_000).double() + 0.5) / 10_000
        >>> pareto_k_hat(-0.6 * u.log()).round(decimals=1)
        tensor(0.6000, dtype=torch.float64)
    """
    tail = Tail(len(log_weights))
    tail.add(log_weights.double())
    return tail.k_hat()


def tail_size(samples: int) -> int:
    """M, the weights that the fit takes: 3√S, or S/5 up to S = 225 (Vehtari et al. 2024, Section 3.2.1)."""
    return samples // 5 if samples <= 225 else math.isqrt(9 * samples)


class Tail:
    """The largest weights of each datum, gathered from chunks of log weights (s, batch).

    From chunk to chunk it keeps the M of the tail and the one below it; up to M more wait until they are sorted in.

    Args:
        samples: S, how many weights will come.
    """

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self._keep = min(samples, tail_size(samples) + 2)  # a spare one: M of the fit is rounded
        self._parts: list[Tensor] = []

    def add(self, log_weights: Tensor) -> None:
        """Take in a chunk, (s, batch), float64; a weight that is NaN counts as the largest."""
        self._parts.append(log_weights)
        if sum(map(len, self._parts)) >= 2 * self._keep:
            self._parts = [self._largest()]

    def k_hat(self) -> Tensor:
        """k̂ of each datum, (batch,)."""
        largest = self._largest()
        columns = largest.reshape(len(largest), -1).T.cpu().numpy()
        found = torch.tensor([self._fit(column) for column in columns], dtype=torch.float64, device=largest.device)
        return found.reshape(largest.shape[1:])

    def _largest(self) -> Tensor:
        rows = torch.cat(self._parts)
        return rows.topk(min(len(rows), self._keep), dim=0).values

    def _fit(self, largest: Any) -> float:
        """k̂ from the largest log weights of one datum, the largest first."""
        top = largest[0]
        if self.samples < _SMALLEST or not np.isfinite(top):
            return math.nan
        size = tail_size(self.samples)
        tail = np.exp(largest[:size] - top)
        if tail[-1] == 1:
            return -math.inf
        if tail[size - int(size / 4 + 0.5)] < np.finfo(float).tiny:
            return math.inf  # the fit divides by the tail's lower quartile, and would say 5/(M + 10), a good k̂
        # psislw is told of a share r_eff of effective samples, from which it takes the tail's size 3√(n/r_eff), for
        # n·r_eff above 225: with r_eff = n/S that of all S. What fills up to such an n is below the tail.
        n = self.samples if self.samples <= 225 else max(len(largest), math.isqrt(225 * self.samples) + 1)
        n = min(n, self.samples)
        filled = np.full(n, -math.inf)
        filled[: len(largest)] = largest - top
        with np.errstate(all="ignore"):
            r_eff = n / self.samples * (1 - 1e-12)  # M is rounded down
            k = float(arviz().psislw(-filled, r_eff=r_eff)[1])  # it wants the log weights negated
        return k if math.isfinite(k) else math.inf


def arviz() -> Any:
    """`arviz_stats.base.array_stats`, imported upon its first use: it brings scipy, which takes its time."""
    return import_module("arviz_stats.base").array_stats
