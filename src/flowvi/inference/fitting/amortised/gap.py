"""What amortising costs: ordinary searches for the posteriors of a few held-out rows, each alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowvi.errors import DensityError
from flowvi.inference.fitting.amortised.density import RowDensity
from flowvi.inference.fitting.amortised.posterior import Amortised
from flowvi.inference.fitting.effort import EFFORTS
from flowvi.inference.fitting.elbo import elbo
from flowvi.inference.fitting.kinds import flow_makers
from flowvi.inference.fitting.probes import missed_modes
from flowvi.inference.fitting.search import Search, starting_points, winner
from flowvi.inference.fitting.weights import weigh

__all__ = ["Alone", "fit_alone", "spread_out"]

_ROWS = 3


@dataclass(frozen=True, kw_only=True)
class Alone:
    """A posterior fitted to one held-out row alone, as `fit` does in `fast` effort, beside the amortised one."""

    row: int
    """Of the held-out rows."""
    posterior: str
    """`mean-field`, `full-rank`, `student`, `mixture` or `flow`: which had the highest ELBO."""
    gain: float
    """Its ELBO less the amortised posterior's, in nats."""
    se: float
    missed: float
    """Mass around the modes that it found where the amortised posterior has less than a tenth of the density, beside
    this row's Z."""


def fit_alone(module: Amortised, density: RowDensity, context: Tensor, row: int) -> Alone | None:
    """Fit the posterior of one row of context (M, C); None where it has no point of finite density to start from.

    Raises:
        KeyboardInterrupt: Ctrl-C, within the search too.
    """
    one, effort = density.of(context[row]).apart(), EFFORTS["fast"]
    search = Search(one, effort, flow_makers(None, one.joint.size, effort.flows))
    try:
        search.run(starting_points(one, effort.restarts, context.new_zeros(())))
    except DensityError:
        return None
    if search.interrupted:
        raise KeyboardInterrupt
    best = winner(search.stages)
    with torch.no_grad():
        q = module(context[row])
        mine = elbo(q, one, effort.draws)
        log_z = weigh(best.module, one, effort.draws).log_evidence
        log_z = log_z if math.isfinite(log_z) else best.found.inside
        missed = sum(each.share for each in missed_modes(one, q, log_z, search.modes))
    return Alone(
        row=row,
        posterior=best.name,
        gain=best.found.inside - mine.inside,
        se=math.hypot(best.found.se, mine.se),
        missed=missed,
    )


def spread_out(effective: Tensor) -> list[int]:
    """A few rows, evenly over the ranks of their effective draws, (M,)."""
    count = min(_ROWS, len(effective))
    ranks = (torch.arange(count) + 0.5) * len(effective) / count
    return [int(row) for row in effective.argsort()[ranks.long()].tolist()]
