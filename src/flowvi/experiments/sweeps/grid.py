"""From words to jobs: presets × the values of every axis, each job a checked config and its run folder.

Imports no torch.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowvi.errors import ConfigError
from flowvi.experiments.config import parse_overrides, resolve, run_folder
from flowvi.experiments.presets import PRESETS
from flowvi.experiments.run import Run, Sampling, result_path

__all__ = ["Job", "parse_grid", "plan", "split_values"]

_BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}


@dataclass(frozen=True)
class Job:
    """One point of the grid: the run that `flowvi train` makes of the same preset and overrides.

    Attributes:
        label: the preset with the values in which the jobs of the sweep differ.
        run: the run.
        tests: of the trained run; the first one's result is the job's.
    """

    label: str
    run: Run
    tests: tuple[Sampling, ...] = (Sampling(),)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run.folder

    @property
    def result(self) -> Path:
        """The file of its first test's result."""
        return self.results[0]

    @property
    def results(self) -> list[Path]:
        """The files of its tests' results; all are there once it is done."""
        return [result_path(self.folder, samples=test.samples, images=test.images) for test in self.tests]


def parse_grid(words: Sequence[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """The presets (words without `=`) and the axes (`key=a,b,c`) that a command line spells.

    Values are told apart by the commas outside brackets and quotes, and each is then read as `flowvi train` reads it.

    Raises:
        ConfigError: a key given twice, or an empty value among several.

    Example:
        >>> parse_grid(["dlgm.nf10.mnist", "flow.length=10,20", "model.latents=[40],[64,32]"])
        (['dlgm.nf10.mnist'], {'flow.length': [10, 20], 'model.latents': [[40], [64, 32]]})
    """
    presets = [word for word in words if "=" not in word]
    axes: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            continue
        if key in axes:
            raise ConfigError(f"key {key!r} is given twice: give its values as {key}=a,b,c")
        pieces = split_values(text)
        if len(pieces) > 1 and "" in pieces:
            raise ConfigError(f"{word!r} has an empty value: values are separated by one comma each")
        axes[key] = [value for piece in pieces for value in parse_overrides([f"{key}={piece}"]).values()]
    return presets, axes


def split_values(text: str) -> list[str]:
    """The parts of `text` between commas that stand outside `[]`, `{}` and double quotes.

    Example:
        >>> split_values('1,[2,3],"a,b"')
        ['1', '[2,3]', '"a,b"']
    """
    parts, depth, quoted = [""], 0, False
    for character in text:
        if character == '"' and (quoted or depth > 0 or not parts[-1]):  # elsewhere it belongs to the value
            quoted = not quoted
        elif not quoted:
            depth += _BRACKETS.get(character, 0)
            if character == "," and depth <= 0:
                parts.append("")
                continue
        parts[-1] += character
    return parts


def plan(presets: str | Sequence[str], axes: Mapping[str, Any]) -> list[Job]:
    """The jobs of a grid, the last axis moving fastest. A list or range is an axis's values, all else one value.

    Raises:
        ConfigError: no preset, an unknown preset or key, a value that is not allowed, or two jobs in one folder.
        RunError: a run folder that another config made.

    Example:
        >>> jobs = plan("dlgm.nf10.mnist", {"flow.length": [10, 20], "seed": range(2)})
        >>> [job.label for job in jobs][:2]
        ['dlgm.nf10.mnist flow.length=10 seed=0', 'dlgm.nf10.mnist flow.length=10 seed=1']
        >>> jobs[-1].folder.as_posix()
        'runs/dlgm.nf10.mnist,flow.length=20/1'
    """
    presets = [presets] if isinstance(presets, str) else list(presets)
    if not presets:
        example = f"flowvi sweep {next(iter(PRESETS))} seed=0,1,2"
        raise ConfigError(f"no config is given: `flowvi configs` lists them; for example `{example}`")
    points = list(_points(presets, {key: _values(key, value) for key, value in axes.items()}))
    _check(points)
    jobs: dict[Path, Job] = {}
    for label, preset, overrides in points:
        folder = run_folder(preset, overrides)
        if folder in jobs:
            raise ConfigError(
                f"{jobs[folder].label!r} and {label!r} share the run folder {folder}: leave one of them out"
            )
        jobs[folder] = Job(label, Run(folder, resolve(preset, overrides)))
    for job in jobs.values():
        if (job.folder / "config.json").exists():
            job.run.create(job.folder, job.run.config)  # refuses a folder of another config, and else only reads
    return list(jobs.values())


def _values(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list | range):
        return [value]
    if not value:
        raise ConfigError(f"{key!r} has no values: leave it out, or give at least one")
    return list(value)


def _points(presets: Iterable[str], axes: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Label, preset and overrides of each point."""
    varying = [key for key, values in axes.items() if len(values) > 1]
    for preset, *values in itertools.product(presets, *axes.values()):
        overrides = dict(zip(axes, values, strict=True))
        words = [f"{key}={_spelled(overrides[key])}" for key in varying]
        yield " ".join([preset, *words]), preset, overrides


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)


def _check(points: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
    """Resolve every point, and complain of all that is wrong at once; each complaint once."""
    found: dict[str, list[str]] = {}
    for label, preset, overrides in points:
        try:
            resolve(preset, overrides)
        except ConfigError as error:
            for line in str(error).splitlines():
                found.setdefault(line, []).append(label)
    if found:
        raise ConfigError("\n".join(line + _where(labels, len(points)) for line, labels in found.items()))


def _where(labels: Sequence[str], jobs: int) -> str:
    if len(labels) == jobs:
        return ""
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    return f" (in {labels[0]}{more})"
