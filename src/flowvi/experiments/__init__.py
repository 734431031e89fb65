"""Experiments: configs and presets, training, testing, and the folders that runs live in.

Nothing is imported before it is asked for, so that reading a config never waits for torch. The functions
`train`, `load` and `sweep` are reached as `flowvi.train` and so on, or in the modules of the same names
(`from flowvi.experiments.train import train`): exported here they would stand or fall with the order of
imports, since importing a module puts it in its package under its own name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowvi.experiments.config import Config, resolve
    from flowvi.experiments.evaluate import test
    from flowvi.experiments.run import Run, Sampling
    from flowvi.experiments.sweeps.grid import Job
    from flowvi.experiments.sweeps.jobs import Outcome

__all__ = ["Config", "Job", "Outcome", "Run", "Sampling", "resolve", "test"]

_HOMES = {
    "Config": "flowvi.experiments.config",
    "Job": "flowvi.experiments.sweeps.grid",
    "Outcome": "flowvi.experiments.sweeps.jobs",
    "Run": "flowvi.experiments.run",
    "Sampling": "flowvi.experiments.run",
    "resolve": "flowvi.experiments.config",
    "test": "flowvi.experiments.evaluate",
}


if not TYPE_CHECKING:  # a type checker that saw it would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
