"""The stopwatch: contenders take turns in one process, and every number keeps its spread.

Two programs timed one after the other see two different machines: the clock's frequency drifts, a neighbour
comes and goes.  Here they are timed in alternating blocks (A B, B A, A B, …) of a few calls each, after a
warm-up of both, so that what disturbs one disturbs the other.  A block's time divided by its calls is one
observation; the median and the quartiles of the observations are reported, and so are those of the ratios
within each pair of blocks, which a slow drift cannot bias.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Spread:
    """Median, quartiles and extremes of some observations."""

    median: float
    lower: float
    """First quartile."""
    upper: float
    """Third quartile."""
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, observations: Sequence[float]) -> Spread:
        """Summarise at least two observations."""
        lower, median, upper = statistics.quantiles(observations, n=4, method="inclusive")
        return cls(median, lower, upper, min(observations), max(observations), len(observations))


@dataclass(frozen=True)
class Duel:
    """Two contenders at the same job. Times are milliseconds for each unit of work."""

    earlier: Spread
    flowvi: Spread
    ratio: Spread
    """earlier / flowvi within each pair of blocks: above 1 where flowvi is the faster."""

    def to_dict(self) -> dict[str, Any]:
        """Plain nested numbers, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """Work to time: `run` does `units` units of it (steps, images) in one call."""

    run: Callable[[], object]
    units: int = 1

    def block(self, calls: int) -> float:
        """Milliseconds for each unit over a block of `calls` calls."""
        start = time.perf_counter()
        for _ in range(calls):
            self.run()
        return 1e3 * (time.perf_counter() - start) / (calls * self.units)


def duel(earlier: Job, flowvi: Job, *, pairs: int, calls: int = 1, warmup: int = 1) -> Duel:
    """Time two jobs in `pairs` alternating pairs of blocks, after `warmup` blocks of each.

    Who goes first alternates from pair to pair.

    Args:
        earlier: the baseline's job.
        flowvi: ours.
        pairs: observations of each, at least 2.
        calls: calls of `run` in a block.
        warmup: blocks of each that are not counted.
    """
    if pairs < 2:
        raise ValueError(f"pairs = {pairs}: expected at least 2, since a spread is reported")
    for _ in range(warmup):
        earlier.block(calls)
        flowvi.block(calls)
    theirs, ours = [], []
    for pair in range(pairs):
        if pair % 2:
            ours.append(flowvi.block(calls))
            theirs.append(earlier.block(calls))
        else:
            theirs.append(earlier.block(calls))
            ours.append(flowvi.block(calls))
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return Duel(Spread.of(theirs), Spread.of(ours), Spread.of(ratios))


def circumstances() -> dict[str, Any]:
    """What a reader must know to judge a timing: machine, threads, versions, time, and how busy it was."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": load(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def load() -> float | None:
    """Processes that wanted a core, averaged over the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
