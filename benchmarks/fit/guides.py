"""pyro's automatic guides by `SVI` and `Trace_ELBO`, on a log density in unconstrained coordinates.

As pyro's tutorials say (SVI Part IV): `ClippedAdam`, whose step size decays to a tenth over the run, and particles,
vectorised: as many as `fit` has at fast effort, since so many cost hardly more than one. Their first step size, 1e-2,
moves too little in a few seconds, so that a larger one is tried too; and beside the default IAF, of one transform, one
of three. Each setting is given the whole budget of time, and the table keeps the best.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.fit.problem import Clock, Outcome, Problem

PARTICLES = 128
DECAY = 0.1
"""Of the step size, over the whole run."""
PILOT = 30
"""Steps that tell how many the budget has."""
RATES = 0.01, 0.05


@dataclass(frozen=True)
class Setting:
    """A guide of `pyro.infer.autoguide`, and how it is made and fitted."""

    guide: str
    rate: float
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return ", ".join([f"lr={self.rate:g}", *(f"{name}={value}" for name, value in self.options.items())])


SETTINGS = [
    Setting(guide, rate, options)
    for guide, several in {
        "AutoNormal": [{}],
        "AutoMultivariateNormal": [{}],
        "AutoIAFNormal": [{}, {"num_transforms": 3, "hidden_dim": [32, 32]}],
    }.items()
    for options in several
    for rate in RATES
]


def run(setting: Setting, problem: Problem, budget: float, seed: int) -> Outcome:
    """Fit until the time is spent, the pilot's and the set-up's included."""
    import pyro

    clock, before = Clock(budget), problem.density.counts.points
    pyro.set_rng_seed(seed)
    with pyro.validation_enabled(False):
        step, _ = start(setting, problem, decay=1.0)
        for _ in range(PILOT // 3):
            step()
        pilot = Clock(budget)
        for _ in range(PILOT):
            step()
        expected = max(1, int((budget - clock.spent) / (pilot.spent / PILOT)))
        step, guide = start(setting, problem, decay=DECAY ** (1 / expected))
        steps = 0
        while steps == 0 or not clock.over:
            step()
            steps += 1
        more = {"setting": str(setting), "steps": steps}
        seconds, points = clock.spent, problem.density.counts.points - before
    drawn = partial(draw, guide)
    return Outcome(seconds, points, sampler(problem, drawn), weigher(problem, drawn), more)


def start(setting: Setting, problem: Problem, decay: float) -> tuple[Callable[[], object], Any]:
    """A step of optimisation, and the guide that it changes."""
    import pyro
    from pyro import distributions as dist
    from pyro.infer import SVI, Trace_ELBO, autoguide
    from pyro.optim import ClippedAdam

    size = problem.joint.size

    def model() -> None:
        # masked: it says no more than where the guides start
        z = pyro.sample("z", dist.Normal(torch.zeros(size), 1.0).to_event(1).mask(False))
        pyro.factor("log_density", problem.density(z.reshape(-1, size)).reshape(z.shape[:-1]))

    pyro.clear_param_store()
    guide = getattr(autoguide, setting.guide)(model, **setting.options)
    loss = Trace_ELBO(num_particles=PARTICLES, vectorize_particles=True, max_plate_nesting=0)
    return SVI(model, guide, ClippedAdam({"lr": setting.rate, "lrd": decay}), loss).step, guide


def draw(guide: Any, n: int) -> tuple[Tensor, Tensor]:
    """n draws z (n, D) and ln q(z) (n,), by a trace of the guide, as `Trace_ELBO` has them."""
    import pyro
    from pyro import poutine

    with torch.no_grad(), pyro.validation_enabled(False), pyro.plate("draws", n, dim=-1):
        trace = poutine.trace(guide).get_trace()
        trace.compute_log_prob()
    sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
    log_q = sum((site["log_prob"] for site in sites), start=torch.zeros(n))
    return trace.nodes["z"]["value"], log_q


def sampler(problem: Problem, drawn: Callable[[int], tuple[Tensor, Tensor]]) -> Callable[[int], Any]:
    return lambda n: problem.joint.constrain(drawn(n)[0])[0]


def weigher(problem: Problem, drawn: Callable[[int], tuple[Tensor, Tensor]]) -> Callable[[int], Tensor]:
    def log_weights(n: int) -> Tensor:
        z, log_q = drawn(n)
        with torch.no_grad():
            return problem.density(z) - log_q

    return log_weights
