"""pyro's NUTS, one chain from near the origin: what draws the same time buys without a fit."""

# mypy: allow-untyped-calls

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from benchmarks.fit.problem import Clock, Outcome, Problem

PILOT = 20
"""Iterations that tell how many the budget has."""
WARM_UP = 1 / 3
"""The share of the time that goes to adaptation, of at most 500 iterations."""


class _TimeIsUp(Exception):
    pass


def run(problem: Problem, budget: float, seed: int) -> Outcome:
    """Adapt and draw until the time is spent."""
    import pyro

    clock, before = Clock(budget), problem.density.counts.points
    pyro.set_rng_seed(seed)
    start = torch.randn(problem.joint.size) / 10
    pilot = Clock(budget)
    chain(problem, start, PILOT, 0, clock)
    warm_up = min(max(int(WARM_UP * budget / (pilot.spent / PILOT)), PILOT), 500)
    draws = chain(problem, start, warm_up, 10**9, clock)
    seconds, points = clock.spent, problem.density.counts.points - before
    if not draws:
        raise RuntimeError(f"the time was over before the end of {warm_up} iterations of warm-up")
    z = torch.stack(draws)

    def sample(n: int) -> Any:
        every = torch.linspace(0, len(z) - 1, min(n, len(z))).long()
        return problem.joint.constrain(z[every])[0]

    return Outcome(seconds, points, sample, more={"draws": len(z), "warm_up": warm_up})


def chain(problem: Problem, start: Tensor, warm_up: int, draws: int, clock: Clock) -> list[Tensor]:
    """The draws after the warm-up, as many as there is time for."""
    from pyro.infer import MCMC, NUTS

    kept: list[Tensor] = []

    def hook(kernel: object, values: dict[str, Tensor], stage: str, i: int) -> None:
        if stage == "Sample":
            kept.append(values["z"].detach().clone())
        if clock.over:
            raise _TimeIsUp

    kernel = NUTS(potential_fn=lambda values: -problem.density(values["z"][None])[0])
    runs = MCMC(kernel, max(draws, 1), warm_up, {"z": start}, hook_fn=hook, disable_progbar=True)
    with suppress(_TimeIsUp):
        runs.run()
    return kept
