"""How the cost grows: time and peak memory against K, the latents D, the batch, and the importance samples S.

Along K, D and the batch it is a training step, along S an evaluation of −ln p(x) of some images; one of them varies,
the others stay at K = 40, D = 40, batch 100. The models of one line take turns. Memory is measured in a process for
each point (`memory.py`): the most that it held, above what it held before there was a model.

Exponents are slopes in logarithms: least squares over all points, and between the last two, where what does not grow
weighs least.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from benchmarks.measure import Contender, Job, compete
from benchmarks.memory import peak_of
from benchmarks.programs import TINY_MODEL, config_of, engine_of, evidence, run_updates
from benchmarks.settings import Record, Settings

LENGTH = 40
AXES: Mapping[str, Sequence[int]] = {
    "K": (10, 20, 40, 80, 160),
    "D": (10, 20, 40, 80, 160),
    "batch": (50, 100, 200, 400, 800),
    "S": (50, 200, 1000, 5000),
}
TINY_AXES: Mapping[str, Sequence[int]] = {"K": (2, 4)}
IMAGES = 4
CONTENDERS = {"time": "Engine.step, or evidence_of_images along S", "memory": "peak resident memory above the start's"}


def measure(settings: Settings) -> dict[str, Any]:
    """All axes; prints a line for each and its exponents."""
    record = Record("growth", settings, "ms", CONTENDERS)
    record.more.update(memory_unit="MiB", length=LENGTH, exponents={})
    for axis, values in (TINY_AXES if settings.tiny else AXES).items():
        points = {str(value): _point(axis, value, settings) for value in values}
        contest = compete({name: _job(**point) for name, point in points.items()}, settings.effort(15.0, block=0.1))
        memory = {
            name: None if settings.tiny and name != str(values[0]) else peak_of(threads=settings.threads, **point)
            for name, point in points.items()
        }
        more: dict[str, Any] = {"axis": axis, "values": list(values), "memory": memory}
        if axis == "K" and not settings.tiny:
            more["doubling"] = asdict(contest.ratio("160", "80"))
        record.add({}, contest, (), **more)
        times = [cell["median"] for cell in record.cells[-1]["times"].values()]
        record.more["exponents"][axis] = {"time": _slopes(values, times), "memory": _slopes(values, memory.values())}
        print(f"{'growth':<11} {axis}: exponents {record.more['exponents'][axis]}; MiB {memory}", flush=True)
    return record.to_dict()


def job_of(length: int, overrides: Mapping[str, Any], samples: int | None) -> Job:
    """What is measured at one point: a training step, or a pass over the images where there are `samples`."""
    config = config_of(length, overrides)
    engine = engine_of(config)
    if samples is None:
        return Job(engine.step)
    run_updates(engine, 2)
    return Job(partial(evidence, engine.model, config, IMAGES, samples))


def _job(length: int, overrides: Mapping[str, Any], samples: int | None) -> Contender:
    return job_of(length, overrides, samples)


def _point(axis: str, value: int, settings: Settings) -> dict[str, Any]:
    own = {"D": {"model.latents": [value]}, "batch": {"training.batch": value}}.get(axis, {})
    tiny = {**TINY_MODEL, "training.batch": 10} if settings.tiny else {}
    length = value if axis == "K" else 2 if settings.tiny else LENGTH
    return {
        "length": length,
        "overrides": {**tiny, **settings.overrides, **own},
        "samples": value if axis == "S" else None,
    }


def _slopes(values: Sequence[int], found: Any) -> dict[str, float] | None:
    numbers = list(found)
    if not all(numbers):
        return None
    x, y = np.log(values), [math.log(number) for number in numbers]
    return {"all": float(np.polyfit(x, y, 1)[0]), "last": float((y[-1] - y[-2]) / (x[-1] - x[-2]))}
