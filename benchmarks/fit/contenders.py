"""Who takes part: each is given a problem, a budget of CPU seconds and a seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import flowvi
from benchmarks import peers
from benchmarks.fit import guides, nuts
from benchmarks.fit.problem import Clock, Outcome, Problem

PACKAGE = "pyro-ppl"
Contender = Callable[[Problem, float, int], Outcome]


def ours(effort: str, problem: Problem, budget: float, seed: int) -> Outcome:
    """The whole fit, verdict and all, however long it takes: its time is the budget of the others."""
    clock, target = Clock(budget), problem.target
    found = flowvi.fit(target.log_density, target.supports or target.dim, seed=seed, effort=effort)
    if found.interrupted:  # Ctrl-C, after which fit gives what it has
        raise KeyboardInterrupt
    seconds = clock.spent
    torch.manual_seed(seed)

    def log_weights(n: int) -> Tensor:
        with torch.no_grad():
            z, log_q = found.posterior.base.rsample_and_log_prob((n,))
            return problem.density(z) - log_q

    more = {"verdict": found.verdict.label, "setting": found.winner}
    return Outcome(seconds, found.counts.points, found.sample, log_weights, more)


def others() -> dict[str, Contender]:
    """pyro's guides, by name and setting, and NUTS; none where it is not installed."""
    if peers.missing(PACKAGE):
        return {}
    fits = {f"{setting.guide} ({setting})": partial(guides.run, setting) for setting in guides.SETTINGS}
    return {**fits, "NUTS": nuts.run}
