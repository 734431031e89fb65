"""What `flowvi reproduce` makes: each figure or table of the paper by name. Data only; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["REPRODUCTIONS", "Reproduction", "load"]


@dataclass(frozen=True)
class Reproduction:
    """One figure or table.

    Attributes:
        summary: a line on it.
        budgets: what may be spent on it, and what that comes to; the last one unless another is asked for.
        run: `module:function`, called with budget, folder, number of processes and what is told each line of progress;
            does what is not on file yet, and leaves files in the folder.
        takes_settings: whether `run` is called with the values of keys of the config as well, as the argument `axes`.
        show: `module:function`, called with the folder; makes what a reader sees of those files, and returns its paths.
    """

    summary: str
    budgets: Mapping[str, str]
    run: str
    show: str
    takes_settings: bool = False


REPRODUCTIONS: Mapping[str, Reproduction] = {
    "figure3": Reproduction(
        "planar, radial, Sylvester and NICE flows on four energies of the plane",
        {"smoke": "planar, one restart: a minute or two", "default": "within the hour on two cores"},
        run="flowvi.experiments.figure3.reproduce:reproduce",
        show="flowvi.reports.figure3:draw",
    ),
    "cifar10": Reproduction(
        "Table 3: −ln p(x) of patches of CIFAR-10, planar flows of K = 0, 2, 5 and 10 layers",
        {
            "smoke": "300 updates of each: a few minutes",
            "short": "modern protocol, 20,000 updates of each: hours on two cores",
            "paper": "paper protocol, 500,000 updates of each: days on two cores",
        },
        run="flowvi.experiments.cifar10:reproduce",
        show="flowvi.reports.cifar10:write",
        takes_settings=True,
    ),
}
"""By name, as `flowvi reproduce NAME` takes it."""


def load(target: str) -> Any:
    """The function that `module:function` names.

    Example:
        >>> load("flowvi.reports.reproductions:load") is load
        True
    """
    module, name = target.split(":")
    return getattr(import_module(module), name)
