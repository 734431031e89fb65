"""Arms and budgets, and the jobs that they come to. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flowvi.errors import ConfigError
from flowvi.experiments.config import Config, resolve
from flowvi.experiments.run import Sampling
from flowvi.experiments.sweeps.grid import Job, plan

__all__ = ["Arm", "Budget", "Settings", "config_of", "jobs_of", "split_seeds"]

Settings = Mapping[str, Any]

_NEVER_OVERRIDDEN = "flow.kind", "flow.length"  # presets set them


@dataclass(frozen=True)
class Arm:
    """One row of a comparison: a preset and the settings in which it differs from the others.

    `share` is that of the others' updates which it is trained for.
    """

    name: str
    title: str
    preset: str
    settings: Settings = field(default_factory=dict)
    share: float = 1.0


@dataclass(frozen=True)
class Budget:
    """What may be spent on each arm.

    Attributes:
        summary: what it comes to, in a line.
        seeds: of each arm.
        settings: of every arm.
        tests: of every run; the first one's figures are the run's.
    """

    summary: str
    seeds: tuple[int, ...]
    settings: Settings = field(default_factory=dict)
    tests: tuple[Sampling, ...] = (Sampling(),)


def split_seeds(budget: Budget, overrides: Settings) -> tuple[Budget, dict[str, Any]]:
    """The budget with the seeds that `seed=[0,1,2]` or `seed=0,1,2` asks for, and the other overrides.

    Raises:
        ConfigError: seeds that cannot be read, or one given twice.

    Example:
        >>> budget, rest = split_seeds(Budget("", (0,)), {"seed": "0,1", "training.batch": 50})
        >>> budget.seeds, rest
        ((0, 1), {'training.batch': 50})
    """
    rest = {key: value for key, value in overrides.items() if key != "seed"}
    if "seed" not in overrides:
        return budget, rest
    given = overrides["seed"]
    words = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else [given]
    seeds = tuple(int(word) for word in words if str(word).isdecimal())
    if not seeds or len(seeds) < len(words) or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seed cannot be {given!r}: it takes whole numbers, each once, such as seed=0,1,2")
    return replace(budget, seeds=seeds), rest


def jobs_of(arms: Sequence[Arm], budget: Budget, overrides: Settings) -> list[tuple[Arm, Job]]:
    """The jobs of each arm, all arms of the first seed before those of the second. Arms may share a job.

    A run folder is named as `flowvi train` would name it, by what is not a default anyway, so that a run which is
    there already is not done again.

    Raises:
        ConfigError: overrides of what the arms differ in, or that are not allowed.
        RunError: a run folder that another config made.
    """
    _check(arms, overrides)
    made: dict[Path, Job] = {}
    found = []
    for seed in budget.seeds:
        for arm in arms:
            axes = {key: [value] for key, value in _settings(arm, budget, overrides).items()}
            (job,) = plan(arm.preset, {**axes, "seed": [seed]})
            label = f"{arm.title}, seed {seed}"
            job = replace(job, label=label, tests=budget.tests)
            found.append((arm, made.setdefault(job.folder, job)))
    return found


def config_of(arm: Arm, budget: Budget, overrides: Settings) -> Config:
    """The config of an arm's jobs, but for the seed."""
    return resolve(arm.preset, _given(arm, budget, overrides))


def _settings(arm: Arm, budget: Budget, overrides: Settings) -> dict[str, Any]:
    """The settings of an arm that change anything."""
    settings = _given(arm, budget, overrides)
    wanted = resolve(arm.preset, settings)
    for key in list(settings):
        fewer = {name: value for name, value in settings.items() if name != key}
        if _equal(arm.preset, fewer, wanted):
            settings = fewer
    return settings


def _given(arm: Arm, budget: Budget, overrides: Settings) -> dict[str, Any]:
    settings = {**budget.settings, **overrides, **arm.settings}
    if arm.share != 1:
        settings["training.updates"] = round(arm.share * resolve(arm.preset, settings).training.updates)
    return settings


def _equal(preset: str, settings: Settings, wanted: Config) -> bool:
    try:
        return resolve(preset, settings) == wanted
    except ConfigError:  # a key that is allowed only beside the one left out
        return False


def _check(arms: Iterable[Arm], overrides: Settings) -> None:
    differing = {*_NEVER_OVERRIDDEN, *_keys(arms)}
    refused = [key for key in overrides if key in differing]
    if refused:
        raise ConfigError(f"{refused[0]} cannot be given here: it is what the rows differ in")


def _keys(arms: Iterable[Arm]) -> Iterator[str]:
    for arm in arms:
        yield from arm.settings
