"""Maximising the ELBO by path gradients: the rate by a race, convergence by the smoothed ELBO and its error."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.elbo import ELBO, elbo, elbo_of_weights
from flowvi.inference.fitting.located import Located

__all__ = ["Block", "Trace", "maximise"]

_RATES = 0.1, 0.03, 0.01, 0.003, 0.001
_LOWER = 1 / 3  # the rate, times this, when a block does not improve
_LAST = 1 / 30  # of the first rate: below, the fit has converged
_BOUND = 3.0  # a gradient's norm, in medians of the last ones


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
    """The first one, found by the race."""
    converged: bool = False
    interrupted: bool = False


def maximise(
    module: Located,
    density: Density,
    effort: Effort,
    coldest: float = 1.0,
    report: Callable[[Block], None] | None = None,
) -> Trace:
    """Train the module in place until its smoothed ELBO improves no more.

    Steps are Adam's, on path gradients (Roeder et al. 2017, arXiv:1703.09194) of `effort.samples` points or four for
    each dimension; the gradient's norm is bounded by three medians of the last 100. After each block its mean ELBO is
    compared with the best so far: where it gains less than its error and `effort.tolerance`, the weights become their
    mean over the block and the rate falls to a third. It ends at a thirtieth of the first rate, or at
    `effort.blocks` blocks, not converged. Upon Ctrl-C the weights of the last block's end stay, and the trace says so.

    Args:
        module: trained in place.
        density: over unconstrained points.
        effort: how much of each.
        coldest: the power of the density at the start, raised to 1 over the first ten blocks.
        report: called after each block.
    """
    trace, kept = Trace(), deepcopy(module.state_dict())
    try:
        trace.rate = rate = _race(module, density, effort, coldest)
        steps = Steps(module, density, effort, rate)
        if coldest < 1:
            for power in torch.logspace(math.log10(coldest), 0, 10 * effort.block).tolist():
                steps.step(power)
        best = -math.inf
        for _ in range(effort.blocks):
            block, average = _block(steps, effort.block)
            trace.blocks.append(block)
            trace.steps = steps.count
            if report:
                report(block)
            if block.elbo > best + max(block.se, effort.tolerance):
                best = block.elbo
            else:
                best = max(best, block.elbo)
                steps.set(average)
                steps.rate *= _LOWER
            kept = deepcopy(module.state_dict())
            if steps.rate < rate * _LAST:
                trace.converged = True
                break
    except KeyboardInterrupt:
        trace.interrupted = True
        module.load_state_dict(kept)
    return trace


class Steps:
    """The optimiser's state: one call of `step` is one update."""

    def __init__(self, module: Located, density: Density, effort: Effort, rate: float) -> None:
        self.module, self.density, self.count = module, density, 0
        self.samples = max(effort.samples, min(4 * len(module.mean), 4 * effort.samples))
        self.parameters: list[Tensor] = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.adam = torch.optim.Adam(self.parameters, lr=rate)
        self.norms: deque[float] = deque(maxlen=100)

    @property
    def rate(self) -> float:
        """Adam's."""
        rate: float = self.adam.param_groups[0]["lr"]
        return rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self.adam.param_groups[0]["lr"] = rate

    def set(self, weights: list[Tensor]) -> None:
        """Put other weights in place."""
        with torch.no_grad():
            for parameter, weight in zip(self.parameters, weights, strict=True):
                parameter.copy_(weight)

    def step(self, power: float = 1.0) -> ELBO:
        """One update on the density to a power; the ELBO (at power 1) of the weights before it."""
        z, log_q, score = self.module().sample_and_score(torch.Size((self.samples,)))
        value, slope = self.density.value_and_gradient(z)
        good = value.isfinite() & slope.isfinite().all(-1) & score.isfinite().all(-1)
        pull = torch.where(good.unsqueeze(-1), score - power * slope, 0.0) / good.sum().clamp(min=1)
        self.adam.zero_grad()
        z.backward(pull)
        norm = nn.utils.get_total_norm([each.grad for each in self.parameters if each.grad is not None])
        if norm.isfinite() and norm > 0:
            self.norms.append(norm.item())
            bound = _BOUND * statistics.median(self.norms)
            for each in self.parameters:
                if each.grad is not None:
                    each.grad.mul_((bound / norm).clamp(max=1.0))
            self.adam.step()
        self.count += 1
        return elbo_of_weights(value - log_q)


def _block(steps: Steps, size: int) -> tuple[Block, list[Tensor]]:
    """So many steps: the mean of their ELBOs, and of the weights."""
    values, average = [], [torch.zeros_like(parameter) for parameter in steps.parameters]
    for _ in range(size):
        values.append(steps.step().inside)
        with torch.no_grad():
            torch._foreach_add_(average, steps.parameters, alpha=1 / size)
    finite = [value for value in values if math.isfinite(value)] or [-math.inf]
    se = statistics.pstdev(finite) / math.sqrt(len(finite)) if len(finite) > 1 else 0.0
    return Block(statistics.fmean(finite), se, steps.rate), average


def _race(module: Located, density: Density, effort: Effort, power: float) -> float:
    """The rate with the best ELBO after a short run, all from the same start with the same noise."""
    start, scores = deepcopy(module.state_dict()), {}
    devices = [module.mean.device] if module.mean.is_cuda else []
    for rate in _RATES:
        with torch.random.fork_rng(devices):
            steps = Steps(module, density, effort, rate)
            for _ in range(effort.races):
                steps.step(power)
            found = elbo(module(), density, 1000)
        scores[rate] = found.inside if math.isfinite(found.inside) else -math.inf
        module.load_state_dict(start)
    return max(scores, key=lambda rate: scores[rate])
