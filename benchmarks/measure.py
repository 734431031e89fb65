"""The stopwatch: contenders take turns in one run, and every number keeps its spread.

Two programs timed one after the other see two different machines: the clock's frequency drifts, a neighbour comes and
goes. Here all contenders are timed in rounds of one block each, in an order that turns, after a warm-up of all, so that
what disturbs one disturbs the others. A block's time divided by its calls is one observation; the median and the
quartiles of the observations are reported, and so are those of the ratios within each round, which a slow drift cannot
bias. How many calls a block has and how many rounds there are follows from what the contenders cost.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import torch

PACKAGES = ("flowvi", "torch", "numpy", "numba", "pyro-ppl", "normflows", "nflows", "zuko", "flowjax", "jax", "equinox")


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


class Contender(Protocol):
    """What can be timed; `units` are what one call does, such as images."""

    units: int

    def block(self, calls: int) -> float:
        """Milliseconds for each unit over a block of `calls` calls."""
        ...


@dataclass(frozen=True)
class Job:
    """Work in this process: `run` does `units` units of it (steps, images) in one call."""

    run: Callable[[], object]
    units: int = 1

    def block(self, calls: int) -> float:
        """Milliseconds for each unit over a block of `calls` calls."""
        start = time.perf_counter()
        for _ in range(calls):
            self.run()
        return 1e3 * (time.perf_counter() - start) / (calls * self.units)


@dataclass(frozen=True)
class Effort:
    """How long to measure one set of contenders."""

    budget: float = 4.0
    """Seconds, all rounds together; the least number of rounds is done even if they take longer."""
    block: float = 0.03
    """Seconds of one block, at least one call."""
    least: int = 5
    """Rounds."""
    most: int = 31
    slow: float = 60.0
    """Seconds of a call above which a contender takes part in two rounds only, whatever the others do."""


LONG = 5.0
TINY = Effort(budget=0.0, block=0.0, least=2, most=2)


@dataclass(frozen=True)
class Contest:
    """Times of contenders that took turns: milliseconds for each unit, an entry for each round from the first."""

    times: Mapping[str, Sequence[float]]
    calls: Mapping[str, int]

    def ratio(self, over: str, under: str) -> Spread:
        """Of one's time to another's, within each round that both took part in."""
        return Spread.of([a / b for a, b in zip(self.times[over], self.times[under], strict=False)])

    def to_dict(self, *baselines: str) -> dict[str, Any]:
        """Plain nested numbers; the ratios of all times to those of each baseline, where it took part."""
        return {
            "rounds": max(map(len, self.times.values())),
            "calls": dict(self.calls),
            "times": {name: asdict(Spread.of(each)) for name, each in self.times.items()},
            "ratios": {
                under: {name: asdict(self.ratio(name, under)) for name in self.times if name != under}
                for under in baselines
                if under in self.times
            },
        }


def compete(contenders: Mapping[str, Contender], effort: Effort) -> Contest:
    """Time the contenders in rounds, each a block of every one. Who goes first turns from round to round.

    A contender of many short calls makes one that is not counted before each block, so that it does not pay for what
    the one before it left in the caches.
    """
    costs = {name: 1e-3 * job.block(1) * job.units for name, job in contenders.items()}
    # the first call may have had something to set up; one of many seconds has shown its cost
    costs.update({n: 1e-3 * job.block(1) * job.units for n, job in contenders.items() if costs[n] < LONG})
    calls = {name: max(1, round(effort.block / cost)) for name, cost in costs.items()}
    slow = {name for name in contenders if costs[name] > effort.slow}
    cost = sum(costs[name] * calls[name] for name in contenders if name not in slow) or max(costs.values())
    rounds = min(max(int(effort.budget / cost), effort.least), effort.most)
    return Contest(take_turns(contenders, rounds, calls, slow), calls)


def take_turns(
    contenders: Mapping[str, Contender], rounds: int, calls: Mapping[str, int], slow: Collection[str] = ()
) -> dict[str, list[float]]:
    """Milliseconds for each unit in each round, of which the slow ones take part in the first two only."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for turn in range(rounds):
        for name in order:
            if turn >= 2 and name in slow:
                continue
            if calls[name] > 1:
                contenders[name].block(1)
            times[name].append(contenders[name].block(calls[name]))
        order = [*order[1:], order[0]]
    return times


def circumstances() -> dict[str, Any]:
    """What a reader must know to judge a timing: machine, threads, versions, time, and how busy it was."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "load_average": load(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def installed(package: str) -> str | None:
    """Its version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
