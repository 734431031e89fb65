"""What the metrics of a training say of its course. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowvi.errors import RunError
from flowvi.experiments.arms.store import Record
from flowvi.experiments.arrays import read_arrays
from flowvi.experiments.lines import read_lines
from flowvi.experiments.sweeps.grid import Job
from flowvi.experiments.sweeps.jobs import failure, result_of

__all__ = ["START", "course", "course_of", "curve", "more_samples", "tested"]

POINTS = 60  # of a curve on file, at most
START = 200  # updates in which F rises and falls for good reasons: the prior hardly counts yet


def tested(job: Job) -> Record | None:
    """The result of a job's first test, with the curve of its training, and what more samples change; None before."""
    result = result_of(job)
    if result is None:
        return None
    more = [more_samples(job.result, path) for path in job.results[1:]]
    return {**result, "curve": curve(read_lines(job.run.metrics)), "more_samples": more}


def more_samples(first: Path, second: Path) -> Record:
    """By how much −ln p̂(x) differs in a second test from the first, on the images of the second, in nats.

    Raises:
        RunError: a test's files cannot be read.
    """
    few, many = (read_arrays(path.with_suffix(".npz"), f"remove {path.name} beside it") for path in (first, second))
    try:
        about = json.loads(second.read_text("utf-8"))
        place = np.searchsorted(few["row"], many["row"])  # rows are sorted
        shared = np.isin(many["row"], few["row"])
        change = (few["log_evidence"][place[shared]] - many["log_evidence"][shared]).astype(np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"cannot read the test in {second} ({error}): remove it, and it is made again") from error
    change_se = float(change.std(ddof=1)) / math.sqrt(len(change)) if len(change) > 1 else math.nan
    return {
        "samples": about["samples"], "images": len(change), "nll": about["nll"], "nll_se": about["nll_se"],
        "change": float(change.mean()) if len(change) else math.nan, "change_se": change_se,
    }  # fmt: skip


def course_of(job: Job) -> Record | None:
    """The course of a job's training, beside the result of its test, or beside what was not finite; None of others."""
    result, message = result_of(job), failure(job.folder)
    if result is None and (message is None or "not finite" not in message):  # a full disk says nothing of a training
        return None
    config = job.run.config
    about = result or {"config": config.preset, "config_hash": config.hash(), "seed": config.seed, "failure": message}
    return {**about, **course(read_lines(job.run.metrics))}


def course(metrics: Iterable[Mapping[str, Any]]) -> Record:
    """The largest rise of F, the largest norm of a gradient, the lowest F on validation images.

    F is the free energy at β = 1, in nats, the mean over the updates between two lines of the metrics. It falls from
    one end of a sound training to the other but for the noise of its mean, so the rise is
    max over s < t of F(t) − F(s), both after the first updates. The norm is the largest of such means, and that of the
    whole gradient before it is clipped, though after each image's is bounded. What there are no lines on is None.

    Example:
        >>> values = (300, 120.0), (310, 90.0), (320, 99.0)
        >>> course({"update": update, "free_energy": value, "gradient_norm": 40.0} for update, value in values)
        {'rise': 9.0, 'risen_at': 320, 'gradient_norm': 40.0, 'validation_free_energy': None}
    """
    lowest, rise, risen_at, norm, validated = math.inf, None, None, None, None
    for line in metrics:
        if "validation_free_energy" in line:
            score = float(line["validation_free_energy"])
            validated = score if validated is None else min(validated, score)
        if line["update"] <= START or "free_energy" not in line:
            continue
        value = float(line["free_energy"])
        norm = max(norm or 0.0, float(line["gradient_norm"]))
        if lowest < math.inf and (rise is None or value - lowest > rise):
            rise, risen_at = value - lowest, line["update"]
        lowest = min(lowest, value)
    return {"rise": rise, "risen_at": risen_at, "gradient_norm": norm, "validation_free_energy": validated}


def curve(metrics: Iterable[Mapping[str, Any]], points: int = POINTS) -> Record:
    """F in training and on validation images at so many updates at most, evenly chosen, the last among them; in nats.

    A list each. Without validation the updates are those of training's own lines, and that list holds None.

    Example:
        >>> lines = [{"update": 1000, "free_energy": 101.234}, {"update": 1000, "validation_free_energy": 103.0}]
        >>> curve(lines)
        {'update': [1000], 'free_energy': [101.23], 'validation_free_energy': [103.0]}
    """
    found: dict[str, dict[int, float]] = {"free_energy": {}, "validation_free_energy": {}}
    for line in metrics:
        for key, values in found.items():
            if key in line:
                values[line["update"]] = round(float(line[key]), 2)
    updates = sorted(found["validation_free_energy"] or found["free_energy"])
    places = range(points) if updates else ()
    kept = list(dict.fromkeys(updates[-1 - len(updates) * back // points] for back in places))[::-1]
    return {"update": kept, **{key: [values.get(update) for update in kept] for key, values in found.items()}}
