"""What is run at each budget: cells of an energy, a flow and a length, each with its restarts. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowvi.errors import ConfigError
from flowvi.experiments.figure3.scheme import Scheme

__all__ = ["BUDGETS", "FLOWS", "Cell", "Kind", "cells"]

ENERGIES = "U1", "U2", "U3", "U4"


@dataclass(frozen=True)
class Kind:
    """A flow of the figure: its kind and options in the registry, and its name in print."""

    kind: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)


_HIDDEN = (32,)  # a coupling here is a function of one number; the paper does not say how wide its networks are

FLOWS: Mapping[str, Kind] = {
    "planar": Kind("planar", "planar"),
    "nice-orthogonal": Kind("nice", "NICE, orthogonal", {"mixing": "orthogonal", "hidden": _HIDDEN}),
    "nice-permutation": Kind("nice", "NICE, permutation", {"mixing": "permutation", "hidden": _HIDDEN}),
    "radial": Kind("radial", "radial"),
    "sylvester": Kind("sylvester", "Sylvester"),
}
"""The figure's flows by name: the paper's three, then two that it does not have."""


@dataclass(frozen=True)
class Cell:
    """Some restarts, with seeds 0, 1, …, of one flow on one energy."""

    energy: str
    flow: str
    length: int
    restarts: int
    scheme: Scheme

    @property
    def name(self) -> str:
        """Such as `U1/planar/32`."""
        return f"{self.energy}/{self.flow}/{self.length}"


def _smoke() -> list[Cell]:
    scheme = Scheme(updates=1000)
    return [Cell(energy, "planar", length, 1, scheme) for length in (2, 8, 32) for energy in ENERGIES]


def _default() -> list[Cell]:
    """Flow by flow, the longest chains of each first, so that no core waits long for another at the end."""
    made = []
    for flow, restarts in _RESTARTS.items():
        for length in (32, 8, 2):
            made += [Cell(energy, flow, length, restarts, _SCHEMES.get(flow, Scheme())) for energy in ENERGIES]
    return made


# networks want smaller steps: on U4, K = 32, 600 updates, a median KL of 0.32 in place of 0.43
_NETWORKS = Scheme(learning_rate=5e-3)
_SCHEMES = {"nice-orthogonal": _NETWORKS, "nice-permutation": _NETWORKS}

# fused chains take ten restarts in a quarter of the time that layers of small tensors take for five
_RESTARTS = {"planar": 10, "radial": 10, "sylvester": 5, "nice-orthogonal": 5, "nice-permutation": 5}

BUDGETS: Mapping[str, Any] = {"smoke": _smoke, "default": _default}
"""What makes the cells, by budget."""


def cells(budget: str) -> list[Cell]:
    """The cells of a budget.

    Raises:
        ConfigError: there is no such budget.

    Example:
        >>> len(cells("default"))
        60
    """
    if budget not in BUDGETS:
        raise ConfigError(f"budget cannot be {budget!r}: it takes one of {', '.join(BUDGETS)}")
    made: list[Cell] = BUDGETS[budget]()
    return made
