from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from flowvi.errors import NonFiniteError
from flowvi.experiments import evaluate
from flowvi.experiments.arms import reproduce
from flowvi.experiments.arms.arm import Budget
from flowvi.experiments.run import Run, Sampling
from flowvi.experiments.sweeps.grid import Job
from flowvi.experiments.sweeps.jobs import Outcome, standing
from flowvi.experiments.train import train_run

Settings = dict[str, Any]


@pytest.fixture
def budget(tiny: Settings) -> Budget:
    settings = {key: value for key, value in tiny.items() if key != "flow.length"}
    return Budget("", (0,), settings, tests=(Sampling(5, 20), Sampling(9, 10)))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run in this process, which starts none: the sweep's own tests are elsewhere."""

    def run(todo: Sequence[Job], *, jobs: int, retry: bool, ended: Callable[[Outcome], None]) -> list[Outcome]:
        assert retry
        outcomes = []
        for job in todo:
            outcomes.append(standing(job) or done(job))
            ended(outcomes[-1])
        return outcomes

    def done(job: Job) -> Outcome:
        made = Run.create(job.folder, job.run.config)
        try:
            train_run(made)
        except NonFiniteError as error:
            return Outcome(job, "failed", message=str(error))
        first, *_ = [evaluate.test(made, samples=each.samples, images=each.images) for each in job.tests]
        return Outcome(job, "done", result=first)

    monkeypatch.setattr(reproduce, "sweep_jobs", run)
