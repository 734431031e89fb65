"""Maximising the ELBO by path gradients: the rate by a race, convergence by the smoothed ELBO and its error."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.elbo import elbo
from flowvi.inference.fitting.located import Located
from flowvi.inference.fitting.updates import Updates

__all__ = ["Block", "Steps", "Trace", "cosine", "maximise", "run_block", "settled"]

_RATES = 0.1, 0.03, 0.01, 0.003
_EXACT = 0.01  # nats, the log weights' standard deviation: half its square is what is left to gain


@dataclass(frozen=True)
class Block:
    """The smoothed ELBO over one block of steps, with its standard error, in nats."""

    elbo: float
    se: float
    rate: float


@dataclass
class Trace:
    """What happened in one optimisation."""

    blocks: list[Block] = field(default_factory=list)
    steps: int = 0
    rate: float = math.nan
    """The first one: of a fit found by a race."""
    converged: bool = False
    interrupted: bool = False

    def then(self, other: Trace) -> Trace:
        """This one and the one that went on from where it ended, whose end is that of both."""
        both = [*self.blocks, *other.blocks]
        return Trace(both, self.steps + other.steps, self.rate, other.converged, other.interrupted)


def maximise(
    module: Located,
    density: Density,
    effort: Effort,
    share: float = 1.0,
    coldest: float = 1.0,
    report: Callable[[Block], None] | None = None,
) -> Trace:
    """Train the module in place.

    Steps are Adam's, on path gradients (Roeder et al. 2017, arXiv:1703.09194) of `effort.samples` points or four for
    each dimension; the gradient's norm is bounded by three medians of the last 100. The rate is the one that came
    farthest in a race; a cosine takes it to 0. The fit has converged where the smoothed ELBO of the last quarter is
    above that of the quarter before by less than twice its error, or than `effort.tolerance`; it ends early where the
    weights are all but equal. Upon Ctrl-C the weights of the last block's end stay, and the trace says so.

    Args:
        module: trained in place.
        density: over unconstrained points.
        effort: how much of each.
        share: of the effort's blocks and of its race, 0 to 1.
        coldest: the power of the density at the start, raised to 1 over the first half.
        report: called after each block.
    """
    trace, kept = Trace(), deepcopy(module.state_dict())
    blocks, races = (max(1, round(share * most)) for most in (effort.blocks, effort.races))
    try:
        steps = _race(module, density, effort, races, coldest)
        trace.rate = steps.rate
        for i in range(blocks):
            power = coldest ** max(0.0, 1 - 2 * i / blocks)
            steps.rate = cosine(trace.rate, i / blocks)
            block, spread = run_block(steps, effort.block, power)
            trace.blocks.append(block)
            trace.steps = steps.count
            kept = deepcopy(module.state_dict())
            if report:
                report(block)
            if power == 1 and spread < _EXACT:
                trace.converged = True
                return trace
        trace.converged = settled(trace.blocks, effort.tolerance)
    except KeyboardInterrupt:
        trace.interrupted = True
        module.load_state_dict(kept)
    return trace


def cosine(rate: float, done: float) -> float:
    """The rate where a share of the steps is done, 0 to 1: from the whole down to nought."""
    return rate * 0.5 * (1 + math.cos(math.pi * done))


def settled(blocks: list[Block], tolerance: float) -> bool:
    """Whether the last quarter gains no more than its error over the quarter before, or than the tolerance."""
    quarter = max(1, len(blocks) // 4)
    if len(blocks) < 2 * quarter:
        return False
    before, last = blocks[-2 * quarter : -quarter], blocks[-quarter:]
    gain = statistics.fmean(block.elbo for block in last) - statistics.fmean(block.elbo for block in before)
    error = math.hypot(*(block.se for block in [*before, *last])) / quarter
    return gain < max(2 * error, tolerance)


class Steps(Updates):
    """The optimiser's state: one call of `step` is one update."""

    def __init__(self, module: Located, density: Density, effort: Effort, rate: float) -> None:
        super().__init__(module, rate)
        self.module, self.density, self.count = module, density, 0
        self.samples = max(effort.samples, min(4 * len(module.mean), 4 * effort.samples))

    def step(self, power: float = 1.0, beside: Callable[[Any, int], Tensor | None] | None = None) -> Tensor:
        """One update on the density to a power; ln f − ln q at the draws that it is made from, (n,).

        `beside`, given the posterior and n, is a loss of its own that is added.
        """
        q = self.module()
        z, log_q, score = q.sample_and_score(torch.Size((self.samples,)))
        value, slope = self.density.value_and_gradient(z)
        pull = score - power * slope
        good = value.isfinite() & pull.isfinite().all(-1)
        pull = torch.where(good.unsqueeze(-1), pull, 0.0) / good.sum().clamp(min=1)
        self.update(z, pull, beside(q, self.samples) if beside else None)
        self.count += 1
        log_weights: Tensor = value - log_q.detach()
        return log_weights


def run_block(
    steps: Steps, size: int, power: float = 1.0, beside: Callable[[Any, int], Tensor | None] | None = None
) -> tuple[Block, float]:
    """So many steps: the mean of their ELBOs, and of their log weights' standard deviations."""
    log_weights = torch.stack([steps.step(power, beside) for _ in range(size)]).double()
    good = log_weights.isfinite()
    share = good.double().mean(-1)
    mean = torch.where(good, log_weights, 0.0).mean(-1) / share
    variance = torch.where(good, log_weights - mean[:, None], 0.0).square().mean(-1) / share
    values = (mean + share.log())[share > 0].tolist() or [-math.inf]
    se = statistics.pstdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Block(statistics.fmean(values), se, steps.rate), (variance / share).sqrt().mean().item()


def _race(module: Located, density: Density, effort: Effort, races: int, power: float) -> Steps:
    """Steps at the rate that came farthest, all from the same start with the same noise; its weights stay."""
    start = deepcopy(module.state_dict())
    devices = [module.mean.device] if module.mean.is_cuda else []
    best: tuple[float, Steps, Any] | None = None
    for rate in _RATES:
        module.load_state_dict(start)
        with torch.random.fork_rng(devices):
            steps = Steps(module, density, effort, rate)
            for _ in range(races):
                steps.step(power)
            found = elbo(module(), density, 2000, power)
        score = found.inside if math.isfinite(found.inside) else -math.inf
        if best is None or score > best[0]:
            best = score, steps, deepcopy(module.state_dict())
    assert best is not None
    module.load_state_dict(best[2])
    return best[1]
