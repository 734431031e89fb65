"""Ranks of parameters among draws, and tests of whether they are uniform (Talts et al. 2018, arXiv:1804.06788)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Generator, Tensor

__all__ = ["DRAWS", "chi_square", "deviation", "ranks"]

DRAWS = 99
"""Independent draws for each rank, which is then one of 0 … 99."""
_BINS = 20, 10, 5, 4, 2
_SIMULATED = 10_000


def ranks(value: Tensor, draws: Tensor) -> list[int]:
    """How many of the draws (n, k) lie below the value (k,), for each of the k.

    Example:
        >>> ranks(torch.tensor([0.5, 3.0]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        [1, 2]
    """
    below: list[int] = (draws < value).sum(0).tolist()
    return below


def chi_square(found: Sequence[int]) -> float:
    """The p-value of Pearson's test of ranks in bins of equal chance, as many as have five ranks each (two at least).

    Example:
        >>> chi_square(range(100)), chi_square([0] * 100) < 1e-6
        (1.0, True)
    """
    bins = next((each for each in _BINS if len(found) >= 5 * each), _BINS[-1])
    expected = len(found) / bins
    counts = _counts(torch.tensor(list(found))[None]).reshape(bins, -1).sum(-1)
    statistic = (counts - expected).square().sum() / expected
    p: float = torch.special.gammaincc(torch.tensor((bins - 1) / 2).double(), statistic / 2).item()
    return p


def deviation(found: Sequence[int]) -> tuple[float, float]:
    """The largest deviation of the ranks' distribution function from uniform, in its standard errors, and its p-value.

    The error at x is that of a binomial share, √(x (1 − x)/n), which makes it a band that narrows at both ends and so
    sees draws that are too narrow (Säilynoja, Bürkner & Vehtari 2022, arXiv:2103.10522). The p-value is by 10,000 sets
    of uniform ranks.

    Example:
        >>> deviation([0] * 100)[1] < 1e-3, deviation(range(100))[1]
        (True, 1.0)
    """
    largest = _largest(torch.tensor(list(found))[None]).item()
    # one more of each: the set itself is as uniform as any (Phipson & Smyth 2010); rounding must not part equals
    beyond = int((_uniform(len(found)) >= largest - 1e-9).sum())
    return largest, (1 + beyond) / (1 + _SIMULATED)


@lru_cache
def _uniform(n: int) -> Tensor:
    """The largest deviations of 10,000 sets of n uniform ranks."""
    return _largest(torch.randint(DRAWS + 1, (_SIMULATED, n), generator=Generator().manual_seed(1)))


def _largest(found: Tensor) -> Tensor:
    """Ranks (sets, n) -> (sets,)."""
    n = found.shape[-1]
    x = torch.arange(1, DRAWS + 1, dtype=torch.float64) / (DRAWS + 1)
    share = _counts(found).cumsum(-1)[:, :-1] / n
    return ((share - x).abs() / (x * (1 - x) / n).sqrt()).amax(-1)


def _counts(found: Tensor) -> Tensor:
    """Ranks (sets, n) -> how often each of 0 … 99 occurs, (sets, 100), float64."""
    none = torch.zeros(len(found), DRAWS + 1, dtype=torch.float64)
    return none.scatter_add_(1, found, torch.ones_like(found, dtype=torch.float64))
