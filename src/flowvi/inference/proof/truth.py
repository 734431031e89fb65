"""How far a fit is from a target's exact answers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from flowvi.inference.fitting import Fit
from flowvi.inference.targets import Target

__all__ = ["DRAWS", "lost_mode", "marginal_error"]

DRAWS = 1_000
"""Of the fit, and of the exact answer that it is compared with."""
_REFERENCE = 50_000
_REPEATS = 20


def marginal_error(target: Target, fit: Fit) -> float:
    """The error of the worst marginal, in units of what as many exact draws give; NaN for an improper target.

    A marginal's error is the 1-Wasserstein distance from uniform of its draws' probability integral transform, by the
    ranks among 50,000 exact draws. The unit is the mean, over 20 sets of exact draws, of the largest over marginals.
    """
    if target.sample is None:
        return math.nan
    generator = Generator().manual_seed(1)
    reference = _columns(target.sample(_REFERENCE, generator)).sort(0).values
    varies = reference[0] < reference[-1]  # not the zeros of a Cholesky factor
    reference = reference[:, varies]
    exact = [_worst(_columns(target.sample(DRAWS, generator))[:, varies], reference) for _ in range(_REPEATS)]
    return _worst(_columns(fit.sample(DRAWS))[:, varies], reference) / (sum(exact) / len(exact))


def lost_mode(target: Target, fit: Fit) -> float:
    """The greatest mass of a mode to which the fit gives less than half of its draws; 0 where there is none."""
    if not target.modes:
        return 0.0
    draws = fit.sample(10 * DRAWS)
    return max(
        (mode.mass for mode in target.modes.values() if mode.contains(draws).double().mean() < mode.mass / 2),
        default=0.0,
    )


def _columns(points: Any) -> Tensor:
    """Points by parameter or as a tensor, (n, marginals), float64."""
    parts = list(points.values()) if isinstance(points, dict) else [points]
    return torch.cat([part.double().reshape(len(part), -1) for part in parts], -1)


def _worst(draws: Tensor, reference: Tensor) -> float:
    """The largest 1-Wasserstein distance over marginals, from (n, k) and sorted (m, k)."""
    ranks = torch.searchsorted(reference.mT.contiguous(), draws.mT.contiguous()).double() / len(reference)
    n = draws.shape[0]
    even = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return (ranks.sort(-1).values - even).abs().mean(-1).max().item()
