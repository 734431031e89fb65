"""The paper's Table 3: −ln p(x) of CIFAR-10's patches under planar flows of K = 0, 2, 5 and 10 layers.

The runs are those of `flowvi sweep` with the same words, in their own folders; on file come their results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from flowvi.data.cifar10 import read
from flowvi.errors import ConfigError, RunError
from flowvi.experiments.arrays import read_arrays
from flowvi.experiments.choice import choose
from flowvi.experiments.config import resolve
from flowvi.experiments.lines import read_lines, write_lines
from flowvi.experiments.results import mean_and_error
from flowvi.experiments.sweep import Outcome, sweep
from flowvi.experiments.turns import in_turn

__all__ = ["BUDGETS", "PRESETS", "reproduce"]

PRESETS = "dlgm.dc.cifar10", "dlgm.nf2.cifar10", "dlgm.nf5.cifar10", "dlgm.nf10.cifar10"

# of 192 continuous pixels the gradient is ten times that of MNIST's: modern's 100 would clip nearly every update, and
# after 2,000 of them −ln p(x) is 4 to 8 nats higher with it
_CLIP = {"training.clip": 1000.0, "training.clip_image": 3000.0}

BUDGETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"training.protocol": "quick", "training.updates": 300, "training.warmup": 100, **_CLIP},
    "short": {"training.protocol": "modern", **_CLIP},
    "paper": {"training.protocol": "paper"},
}
"""What each trains with, by dotted key."""


def reproduce(
    budget: str,
    out: Path,
    jobs: int,
    say: Callable[[str], None] = lambda line: None,
    axes: Mapping[str, Sequence[Any]] | None = None,
    only: Sequence[str] = (),
) -> None:
    """Train and test the four presets, and leave their results in `out` as `cifar10.jsonl`.

    What is there of other presets and seeds stays; a preset's results with other settings give way.

    To a result come `gain`, by how much ln p(x) is above that of K = 0 of the same settings, in nats, the mean over the
    test patches, and its standard error `gain_se`: the patches are the same, so the two are compared patch by patch.

    Args:
        budget: a key of `BUDGETS`.
        out: the folder of the file.
        jobs: processes; the runs are divided between them.
        say: told what the data are.
        only: patterns of the presets' names; without any, all four.
        axes: the values of any key of the config, such as `{"data.path": [FILE], "seed": [0, 1, 2]}`.

    Raises:
        ConfigError: another budget, an unknown key, a value that is not allowed, or several data files.
        DataError: the data cannot be had.
        RunError: a run that failed, or files that cannot be written or are of another budget.
        InterruptedRun: it was asked to stop; every run has saved a checkpoint.
    """
    if budget not in BUDGETS:
        raise ConfigError(f"budget cannot be {budget!r}: it takes one of {', '.join(BUDGETS)}")
    _on_file(out, budget)
    given = {key: list(values) for key, values in (axes or {}).items()}
    settings = {**_defaults(budget, given, say), **given}
    outcomes = sweep(choose(PRESETS, only), jobs=jobs, retry=True, **settings)
    failed = [outcome for outcome in outcomes if outcome.state != "done"]
    if failed:
        first = failed[0]
        raise RunError(
            f"{len(failed)} of {len(outcomes)} runs failed, the first in {first.job.folder}: {first.message}; "
            "the same command tries again, and does not repeat the others"
        )
    _put_on_file(out, [_record(outcome, outcomes, budget) for outcome in outcomes], budget)


def _defaults(budget: str, given: Mapping[str, Sequence[Any]], say: Callable[[str], None]) -> dict[str, Any]:
    """The budget's settings; of a subset no more is held out than a tenth. Downloads the data once, for all runs."""
    for key in ("data.path", "data.name"):
        if len(given.get(key, [None])) != 1:
            raise ConfigError(f"{key} has {len(given[key])} values: it takes one, so that all runs see the same data")
    data = resolve(PRESETS[0], {**BUDGETS[budget], **{key: values[0] for key, values in given.items()}}).data
    if data.name != "cifar10":
        raise ConfigError(f"data.name cannot be {data.name!r}: what is reproduced is cifar10; leave it out")
    source = read(data.path)
    say(f"CIFAR-10, {'a subset: ' + source.subset if source.subset else 'all of its images'}")
    return {**BUDGETS[budget], "data.validation": min(data.validation, len(source.arrays["train"]) // 10)}


def _record(outcome: Outcome, outcomes: Sequence[Outcome], budget: str) -> dict[str, Any]:
    """A run's result, with its gain over K = 0 if the run has such a partner."""
    assert outcome.result is not None
    record = {**outcome.result, "table": "cifar10", "budget": budget}
    for other in outcomes:
        if other.job.run.config.flow.length == 0 and _settings(other) == _settings(outcome) and other is not outcome:
            gains = _log_evidence(outcome) - _log_evidence(other)
            record["gain"], record["gain_se"] = mean_and_error(torch.from_numpy(gains))
    return record


def _settings(outcome: Outcome) -> dict[str, Any]:
    """All that a run was made with but for its posterior."""
    plain = outcome.job.run.config.to_dict()
    del plain["preset"], plain["flow"]
    return plain


def _log_evidence(outcome: Outcome) -> Any:
    """ln p̂(x) of each test patch, (N,), in nats."""
    file = outcome.job.folder / "result.npz"
    return read_arrays(file, "remove that folder's result.json, and run this again")["log_evidence"]


_GAIN = "gain", "gain_se"


def _put_on_file(out: Path, records: Sequence[dict[str, Any]], budget: str) -> None:
    presets, hashes = ({record[key] for record in records} for key in ("config", "config_hash"))
    with in_turn(_file(out)):
        before = _on_file(out, budget)
        kept = [each for each in before if each.get("config") not in presets or each.get("config_hash") in hashes]
        merged: dict[tuple[Any, Any], dict[str, Any]] = {}
        for each in [*kept, *records]:
            old = merged.get(key := (each.get("config_hash"), each.get("seed")), {})
            same = old.get("weights_sha256") == each.get("weights_sha256")  # then its gain, found beside K = 0, holds
            merged[key] = {**({name: old[name] for name in _GAIN if name in old} if same else {}), **each}
        write_lines(_file(out), merged.values())


def _on_file(out: Path, budget: str) -> list[dict[str, Any]]:
    """What a folder holds; it is of one budget, so that a smoke test takes no measurement's place."""
    records = read_lines(_file(out))
    others = {str(record.get("budget")) for record in records} - {budget}
    if others:
        raise RunError(f"{_file(out)} holds results of --budget {' and '.join(sorted(others))}: choose another --out")
    return records


def _file(out: Path) -> Path:
    return out / "cifar10.jsonl"
