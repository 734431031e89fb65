"""Sweeps: a grid of runs, each trained and tested, on the cores of this machine or on a Ray cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from flowvi.errors import ConfigError, InterruptedRun, RunError
from flowvi.experiments.interrupt import stop_requests
from flowvi.experiments.run import Run
from flowvi.experiments.sweeps.board import Board
from flowvi.experiments.sweeps.cluster import Cluster, check_ray
from flowvi.experiments.sweeps.grid import Job, plan
from flowvi.experiments.sweeps.jobs import Outcome, failure, forget_failure, keep_failure, result_of, standing
from flowvi.experiments.sweeps.local import Local

__all__ = ["ENGINES", "Outcome", "sweep", "sweep_jobs"]

ENGINES = "local", "ray"
LOOK_SECONDS = 0.25  # between two looks at the jobs


def sweep(
    presets: str | Sequence[str],
    *,
    engine: str = "local",
    jobs: int | None = None,
    threads: int | None = None,
    gpus: float | None = None,
    retry: bool = False,
    **axes: Any,
) -> list[Outcome]:
    """Train and test every preset with every combination of values; what is done already is left as it is.

    Jobs are the run folders of `flowvi.train`. A sweep that was stopped, or that crashed, goes on where it was when it
    is started again; so does one whose grid has grown. A script that calls this does so under
    `if __name__ == "__main__":`, since the processes that it starts import the script.

    Args:
        presets: one name or several, as `flowvi configs` lists them.
        engine: `local`, a process for each job; `ray`, tasks on the cluster that RAY_ADDRESS names, or else on this
            machine.
        jobs: at most so many at once; by default as many as there are cores (or GPUs), or room in the cluster.
        threads: of each job; by default the cores are divided between the jobs, and a task of Ray has one.
        gpus: of each task of Ray; 0.25 lets four jobs share one. By default one, where the cluster has any.
        retry: whether to try jobs again that failed before; they go on from their last checkpoint.
        axes: keys of the config. A list or a range is the values of an axis, anything else (a tuple too) one value.

    Returns:
        How each job ended, in the order of the grid, the last axis moving fastest.

    Raises:
        ConfigError: before any work, an unknown preset or key, or a value that is not allowed.
        RunError: before any work, a run folder that another config made; or a Ray cluster that cannot be reached.
        InterruptedRun: Ctrl-C or SIGTERM; every job has saved a checkpoint.

    Example:
        >>> outcomes = sweep("dlgm.nf10.mnist", seed=range(3), **{"flow.length": [10, 20]})  # doctest: +SKIP
        >>> [(o.job.label, o.state, o.result["nll"]) for o in outcomes if o.state == "done"]  # doctest: +SKIP
    """
    return sweep_jobs(plan(presets, axes), engine=engine, jobs=jobs, threads=threads, gpus=gpus, retry=retry)


def sweep_jobs(
    todo: Sequence[Job],
    *,
    engine: str = "local",
    jobs: int | None = None,
    threads: int | None = None,
    gpus: float | None = None,
    retry: bool = False,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """`sweep` of jobs that `plan` made; `ended` is told each outcome as it comes, and must not raise."""
    _check(engine, jobs, threads, gpus)
    outcomes = {job.folder: found for job in todo if (found := standing(job)) and (found.state == "done" or not retry)}
    left = [job for job in todo if job.folder not in outcomes]
    if left:
        make = partial(Local, left, jobs, threads) if engine == "local" else partial(Cluster, left, jobs, threads, gpus)
        with closing(make()) as started, Board(todo) as board:
            for outcome in outcomes.values():
                board.ended(outcome)
            outcomes |= _Sweep(left, started, board, ended).run()
    return [outcomes[job.folder] for job in todo]


class Engine(Protocol):
    """What runs jobs. `free`: how many may start now. `ended`: jobs, each with its state and why."""

    @property
    def free(self) -> int: ...
    def start(self, job: Job) -> None: ...
    def ended(self, seconds: float) -> list[tuple[Job, str, str]]: ...
    def stop(self) -> None: ...


class _Sweep:
    """The loop that keeps an engine busy, until all jobs have ended or somebody wants to stop."""

    def __init__(self, jobs: Sequence[Job], engine: Engine, board: Board, ended: Callable[[Outcome], None]) -> None:
        self._waiting, self._running, self._jobs = deque(jobs), 0, len(jobs)
        self._engine, self._board, self._ended = engine, board, ended
        self._outcomes: dict[Path, Outcome] = {}

    def run(self) -> dict[Path, Outcome]:
        """The outcomes by run folder."""
        asked = False
        with stop_requests() as stop:
            while self._running or (self._waiting and not stop.is_set()):
                while self._waiting and self._engine.free and not stop.is_set():
                    self._start(self._waiting.popleft())
                if stop.is_set() and not asked:
                    self._engine.stop()
                    asked = True
                for job, state, message in self._engine.ended(LOOK_SECONDS):
                    self._running -= 1
                    self._end(_outcome(job, state, message))
                self._board.refresh()
        done = sum(outcome.state == "done" for outcome in self._outcomes.values())
        if asked and done < self._jobs:
            raise InterruptedRun(
                f"stopped with {done} of {self._jobs} jobs done; what was trained is saved, and the same command goes "
                "on from there"
            )
        return self._outcomes

    def _start(self, job: Job) -> None:
        try:
            Run.create(job.folder, job.run.config)
            forget_failure(job.folder)
        except (RunError, OSError) as error:
            self._end(Outcome(job, "failed", message=str(error)))
            return
        self._board.handed_over(job)
        self._engine.start(job)
        self._running += 1

    def _end(self, outcome: Outcome) -> None:
        self._outcomes[outcome.job.folder] = outcome
        self._board.ended(outcome)
        self._ended(outcome)


def _outcome(job: Job, state: str, message: str) -> Outcome:
    """What an engine says of a job that ended, checked against the run folder; a failure is kept there."""
    if state == "stopped":
        return Outcome(job, "stopped", message=message)
    if state == "done":
        result = result_of(job)
        if result is not None:
            return Outcome(job, "done", result=result)
        return Outcome(job, "failed", message=f"{job.folder} has no result: is its disk shared with the cluster?")
    if state == "failed" and failure(job.folder) is None:  # the worker could not say it itself
        with suppress(RunError):
            keep_failure(job.folder, message)
    return Outcome(job, "failed", message=message)


def _check(engine: str, jobs: int | None, threads: int | None, gpus: float | None) -> None:
    if engine not in ENGINES:
        raise ConfigError(f"engine cannot be {engine!r}: it takes one of {', '.join(ENGINES)}")
    for name, value in (("jobs", jobs), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} cannot be {value}: it takes a whole number, 1 or more")
    if gpus is not None and (engine != "ray" or gpus < 0 or (gpus > 1 and gpus % 1)):
        raise ConfigError("gpus is for engine=ray: a fraction up to 1, or a whole number, such as 0.25")
    if engine == "ray":
        check_ray()
