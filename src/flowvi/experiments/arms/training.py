"""What the metrics of a training say of its course. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from flowvi.experiments.arms.store import Record
from flowvi.experiments.lines import read_lines
from flowvi.experiments.sweeps.grid import Job
from flowvi.experiments.sweeps.jobs import failure, result_of

__all__ = ["START", "course", "course_of", "curve", "tested"]

POINTS = 60  # of a curve on file, at most
START = 200  # updates in which F rises and falls for good reasons: the prior hardly counts yet


def tested(job: Job) -> Record | None:
    """The result of a job's test with the curve of its training; None before."""
    result = result_of(job)
    return None if result is None else {**result, "curve": curve(read_lines(job.run.metrics))}


def course_of(job: Job) -> Record | None:
    """The course of a job's training, beside the result of its test, or beside what it failed with; None before."""
    result, message = result_of(job), failure(job.folder)
    if result is None and message is None:
        return None
    config = job.run.config
    about = result or {"config": config.preset, "config_hash": config.hash(), "seed": config.seed, "failure": message}
    return {**about, **course(read_lines(job.run.metrics))}


def course(metrics: Iterable[Mapping[str, Any]]) -> Record:
    """The largest rise of F, the largest norm of a gradient, the lowest F on validation images.

    F is the free energy at β = 1, in nats, the mean over the updates between two lines of the metrics. It falls from
    one end of a sound training to the other but for the noise of its mean, so the rise is
    max over s < t of F(t) − F(s), both after the first updates. The norm is the largest of such means, and that of the
    whole gradient before it is clipped. What there are no lines on is None.

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
