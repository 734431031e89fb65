"""Run the arms of a comparison by the sweep's machinery, and gather their results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from flowvi.errors import ConfigError, FlowviError
from flowvi.experiments.arms import ablations as ablation_grids
from flowvi.experiments.arms import figure4 as figure4_grid
from flowvi.experiments.arms import gallery
from flowvi.experiments.arms import rates as rates_grid
from flowvi.experiments.arms import stability as stability_grid
from flowvi.experiments.arms.arm import Arm, Budget, jobs_of, split_seeds
from flowvi.experiments.arms.store import Record, Store
from flowvi.experiments.arms.training import course_of, tested
from flowvi.experiments.choice import choose
from flowvi.experiments.sweep import sweep_jobs
from flowvi.experiments.sweeps.grid import Job
from flowvi.experiments.sweeps.jobs import Outcome

__all__ = ["ablations", "compare", "figure4", "rates", "stability"]

Say = Callable[[str], None]
Figures = Callable[[Job], Record | None]
Names = Sequence[str]


def _silent(line: str) -> None:
    pass


def figure4(budget: str, out: Path, jobs: int, say: Say = _silent, settings: Any = None, only: Names = ()) -> bool:
    """Run what Figure 4 and Table 2 show. As `compare`; `budget` is `smoke`, `short` or `paper`."""
    return compare("figure4", *_of(figure4_grid, budget), out, jobs, say, settings, only=only, pictured=True)


def ablations(budget: str, out: Path, jobs: int, say: Say = _silent, settings: Any = None, only: Names = ()) -> bool:
    """Run the ablations. As `compare`; `budget` is `smoke` or `short`."""
    return compare("ablations", *_of(ablation_grids, budget), out, jobs, say, settings, only=only)


def stability(budget: str, out: Path, jobs: int, say: Say = _silent, settings: Any = None, only: Names = ()) -> bool:
    """Count trainings that blow up. As `compare`; `budget` is `smoke` or `default`."""
    return compare("stability", *_of(stability_grid, budget), out, jobs, say, settings, only=only, figures=course_of)


def rates(budget: str, out: Path, jobs: int, say: Say = _silent, settings: Any = None, only: Names = ()) -> bool:
    """Try learning rates on each family of flows. As `compare`; `budget` is `smoke` or `default`."""
    return compare("rates", *_of(rates_grid, budget), out, jobs, say, settings, only=only, figures=course_of)


def compare(
    name: str,
    arms: Sequence[Arm],
    budget: tuple[str, Budget],
    out: Path,
    jobs: int,
    say: Say = _silent,
    settings: Mapping[str, Sequence[Any]] | None = None,
    *,
    only: Names = (),
    figures: Figures = tested,
    pictured: bool = False,
) -> bool:
    """Train and test the arms, each with every seed, and put the results on file.

    The runs are those of `flowvi train`, in the run folders that it would give them (`FLOWVI_RUNS` moves them): what is
    there already is not done again, whoever began it. `out` has the results alone, of one budget and one set of
    overrides. Jobs that failed before are tried again.

    Args:
        name: of the comparison, and of its files in `out`.
        arms: what is compared.
        budget: its name, and what may be spent.
        out: the folder of the results.
        jobs: processes.
        say: told a line on what there is and on what failed.
        settings: values of keys of the config for every arm, a list each; several of `seed` alone.
        only: patterns of the names of arms to run; without any, all. A run that several arms share stands for all.
        figures: what goes on file of a job that has ended, None where there is nothing. By default the result of its
            test, with the curve of its training and the test's values for each image.
        pictured: whether pictures go on file too, see `gallery`.

    Returns:
        Whether all jobs are done; False where some failed.

    Raises:
        ConfigError: before any work, settings that are not allowed.
        RunError: before any work, files in `out` that cannot be used; or that cannot be written.
        InterruptedRun: it was asked to stop; what was done is on file.
    """
    label, spent = budget
    spent, overrides = split_seeds(spent, {key: _one(key, values) for key, values in (settings or {}).items()})
    found = jobs_of(arms, spent, overrides)
    wanted = {arm.name for arm in choose(arms, only, lambda arm: arm.name)}
    store = Store(out, name)
    store.check(label, overrides)
    todo = list({job.folder: job for arm, job in found if arm.name in wanted}.values())
    say(f"{len(todo)} jobs, {sum(job.result.exists() for job in todo)} of them done before")
    lost: list[str] = []

    def put_on_file(folders: Collection[Path]) -> None:
        some = [(arm, job) for arm, job in found if job.folder in folders]
        store.add(_gathered(some, {"budget": label, "overrides": overrides}, figures))
        if pictured:
            gallery.keep(some, out, name)

    def ended(outcome: Outcome) -> None:  # the other jobs go on, whatever becomes of one's files
        try:
            put_on_file([outcome.job.folder])
        except FlowviError as error:
            lost.append(f"not on file: {outcome.job.label}: {error}")

    put_on_file({job.folder for job in todo})
    outcomes = sweep_jobs(todo, jobs=jobs, retry=True, ended=ended)
    failed = [each for each in outcomes if each.state != "done"]
    for line in [*(f"{each.state}: {each.job.label}: {each.message}" for each in failed), *lost]:
        say(line)
    return not failed and not lost


def _one(key: str, values: Sequence[Any]) -> Any:
    """The value of a key, or the list of the seeds."""
    if key == "seed":
        return list(values)
    if len(values) != 1:
        raise ConfigError(f"{key} is the same in all runs that are compared: {len(values)} values are given")
    return values[0]


def _gathered(found: Sequence[tuple[Arm, Job]], about: Record, figures: Figures) -> list[tuple[Record, Path | None]]:
    """The results that there are, each with the arms that it stands for, and the file of its images."""
    arms: dict[Path, list[str]] = {}
    for arm, job in found:
        arms.setdefault(job.folder, []).append(arm.name)
    made: list[tuple[Record, Path | None]] = []
    for job in {job.folder: job for _, job in found}.values():
        record = figures(job)
        if record is not None:
            images = job.result.with_suffix(".npz") if figures is tested else None
            made.append(({**record, "arms": arms[job.folder], **about}, images))
    return made


def _of(grid: Any, name: str) -> tuple[list[Arm], tuple[str, Budget]]:
    """The arms of a grid's budget, and the budget.

    Raises:
        ConfigError: there is no such budget.
    """
    if name not in grid.BUDGETS:
        raise ConfigError(f"budget cannot be {name!r}: it takes one of {', '.join(grid.BUDGETS)}")
    return grid.arms(name), (name, grid.BUDGETS[name])
