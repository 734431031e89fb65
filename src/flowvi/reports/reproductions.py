"""What `flowvi reproduce` makes: each figure or table of the paper by name. Data only; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from flowvi.experiments.arms.ablations import BUDGETS as ABLATION_BUDGETS
from flowvi.experiments.arms.figure4 import BUDGETS as FIGURE4_BUDGETS
from flowvi.experiments.arms.rates import BUDGETS as RATES_BUDGETS
from flowvi.experiments.arms.stability import BUDGETS as STABILITY_BUDGETS

__all__ = ["REPRODUCTIONS", "Reproduction", "load"]


@dataclass(frozen=True)
class Reproduction:
    """One figure or table.

    Attributes:
        summary: a line on it.
        budgets: what may be spent on it, and what that comes to.
        run: `module:function`, called with budget, folder, number of processes, what is told each line of progress, the
            values of keys of the config, each a list, and patterns of the names of rows (none: all); does what is not
            on file yet, and leaves files in the folder. Returns False where part of it failed.
        sections: `module:function`, called with the folder; draws pictures of those files beside them, and returns the
            `columns.Section`s that a reader sees.
        of: the reproduction whose runs and folder it shares, if not its own.
        usual: the budget where none is asked for; the last one, if it says no other.
    """

    summary: str
    budgets: Mapping[str, str]
    run: str
    sections: str
    of: str | None = None
    usual: str | None = None

    @property
    def default(self) -> str:
        """The budget where none is asked for."""
        return self.usual or list(self.budgets)[-1]


_FIGURE4: dict[str, Any] = {
    "budgets": {name: budget.summary for name, budget in FIGURE4_BUDGETS.items()},
    "run": "flowvi.experiments.arms.reproduce:figure4",
    "usual": "short",
}

REPRODUCTIONS: Mapping[str, Reproduction] = {
    "figure3": Reproduction(
        "planar, radial, Sylvester and NICE flows on four energies of the plane",
        {"smoke": "planar, one restart: a minute or two", "default": "one to two hours on two cores"},
        run="flowvi.experiments.figure3.reproduce:reproduce",
        sections="flowvi.reports.figure3:sections",
    ),
    "figure4": Reproduction(
        "F, KL and −ln p(x) on MNIST against K, planar and NICE", sections="flowvi.reports.figure4:sections", **_FIGURE4
    ),
    "table2": Reproduction(
        "the same runs as a table, other flows, costs and claims",
        sections="flowvi.reports.table2:sections",
        of="figure4",
        **_FIGURE4,
    ),
    "cifar10": Reproduction(
        "Table 3: −ln p(x) of patches of CIFAR-10, planar flows of K = 0, 2, 5 and 10 layers",
        {
            "smoke": "300 updates of each: a few minutes",
            "short": "modern protocol, 20,000 updates of each: hours on two cores",
            "paper": "paper protocol, 500,000 updates of each: days on two cores",
        },
        run="flowvi.experiments.cifar10:reproduce",
        sections="flowvi.reports.cifar10:sections",
        usual="short",
    ),
    "ablations": Reproduction(
        "binarisation, Maxout, amortisation, initialisation, invertibility",
        {name: budget.summary for name, budget in ABLATION_BUDGETS.items()},
        run="flowvi.experiments.arms.reproduce:ablations",
        sections="flowvi.reports.ablations:sections",
    ),
    "stability": Reproduction(
        "how often training blows up, under the modern protocol and without what keeps it steady",
        {name: budget.summary for name, budget in STABILITY_BUDGETS.items()},
        run="flowvi.experiments.arms.reproduce:stability",
        sections="flowvi.reports.stability:sections",
    ),
    "rates": Reproduction(
        "learning rates for each family, by the validation images",
        {name: budget.summary for name, budget in RATES_BUDGETS.items()},
        run="flowvi.experiments.arms.reproduce:rates",
        sections="flowvi.reports.rates:sections",
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
