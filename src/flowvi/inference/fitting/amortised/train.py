"""Maximising the ELBO averaged over data sets, by path gradients on random rows of context."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from flowvi.inference.fitting.amortised.density import RowDensity
from flowvi.inference.fitting.amortised.posterior import Amortised
from flowvi.inference.fitting.amortised.rows import AverageELBO, average_elbo
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.optimise import Block, Trace, cosine, settled
from flowvi.inference.fitting.updates import Updates

__all__ = ["EXACT", "train"]

EXACT = 0.01
"""Nats, the log weights' standard deviation: half its square is what is left to gain."""

_RATES = 0.03, 0.01, 0.003, 0.001
_DRAWS = 8  # of one row, in one step
_ROWS, _EACH = 128, 32  # that a block's ELBO is from: the same rows and noise for every block


def train(
    module: Amortised,
    density: RowDensity,
    context: Tensor,
    effort: Effort,
    report: Callable[[Block], None] | None = None,
) -> Trace:
    """Train the module in place on rows of context (N, C).

    A step is Adam's, on path gradients (Roeder et al. 2017, arXiv:1703.09194) of 8 draws for each of a few rows,
    `effort.samples` points and more; the rate is the one that came farthest in a race, and a cosine takes it to 0. A
    block's ELBO is over 128 rows, with the same noise each time. It ends, and has converged, as `fit` does for one data
    set. Upon Ctrl-C the weights of the last block's end stay, and the trace says so.
    """
    trace, kept = Trace(), deepcopy(module.state_dict())
    try:
        steps = _race(module, density, context, effort)
        trace.rate = steps.rate
        for i in range(effort.blocks):
            steps.rate = cosine(trace.rate, i / effort.blocks)
            for _ in range(effort.block):
                steps.step()
            found = _looked(steps)
            trace.blocks.append(Block(found.mean, found.se, steps.rate))
            trace.steps = steps.count
            kept = deepcopy(module.state_dict())
            if report:
                report(trace.blocks[-1])
            if found.spread.mean().item() < EXACT:
                trace.converged = True
                return trace
        trace.converged = settled(trace.blocks, effort.tolerance)
    except KeyboardInterrupt:
        trace.interrupted = True
        module.load_state_dict(kept)
    return trace


class Steps(Updates):
    """The optimiser's state: one call of `step` is one update."""

    def __init__(self, module: Amortised, density: RowDensity, context: Tensor, effort: Effort, rate: float) -> None:
        super().__init__(module, rate)
        self.module, self.density, self.context, self.count = module, density, context, 0
        self.rows = min(len(context), max(16, 2 * effort.samples // _DRAWS))

    def step(self) -> None:
        """One update."""
        rows = self.context[torch.randint(len(self.context), (self.rows,), device=self.context.device)]
        z, log_q, score = self.module(rows).sample_and_score((_DRAWS,))
        each_row = rows.expand(_DRAWS, -1, -1).reshape(-1, rows.shape[-1])
        value, slope = self.density.given(each_row).value_and_gradient(z.reshape(len(each_row), -1))
        pull = score - slope.reshape(z.shape)
        good = value.reshape(log_q.shape).isfinite() & pull.isfinite().all(-1)
        self.update(z, torch.where(good[..., None], pull, 0.0) / good.sum().clamp(min=1))
        self.count += 1


def _looked(steps: Steps) -> AverageELBO:
    """The ELBO over the first rows, with the same noise whenever it is asked for."""
    context = steps.context[:_ROWS]
    with torch.random.fork_rng([context.device] if context.is_cuda else []):
        torch.manual_seed(0)
        return average_elbo(steps.module, steps.density, context, _EACH)


def _race(module: Amortised, density: RowDensity, context: Tensor, effort: Effort) -> Steps:
    """Steps at the rate that came farthest, all from the same start with the same noise; its weights stay."""
    start = deepcopy(module.state_dict())
    best: tuple[float, Steps, Any] | None = None
    for rate in _RATES:
        module.load_state_dict(start)
        steps = Steps(module, density, context, effort, rate)
        with torch.random.fork_rng([context.device] if context.is_cuda else []):
            for _ in range(effort.races):
                steps.step()
        score = _looked(steps).mean
        score = score if math.isfinite(score) else -math.inf
        if best is None or score > best[0]:
            best = score, steps, deepcopy(module.state_dict())
    assert best is not None
    module.load_state_dict(best[2])
    return best[1]
