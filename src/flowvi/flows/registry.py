"""The families of flows by kind: where each lives and which options it takes. Imports no torch.

A new family is one file in this folder and one entry here; the config validates against this table.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowvi.errors import ConfigError

__all__ = ["FAMILIES", "Family", "Option", "check_options", "family"]


@dataclass(frozen=True)
class Option:
    """One option of a family: its default and the values it may take."""

    default: Any
    allowed: tuple[Any, ...]
    help: str


@dataclass(frozen=True)
class Family:
    """A family of bijections: `target` is `module:Class`, `reference` the paper it comes from.

    `chain` is false where there are no bijections, so that the length can only be 0.
    """

    target: str
    reference: str
    options: Mapping[str, Option] = field(default_factory=dict)
    chain: bool = True


# Every family whose parameters come from `flows/parameters.py` takes these.
_SOURCE = {
    "parameters": Option(
        "auto",
        ("auto", "amortised", "static"),
        "where the layers' parameters come from; auto: a head on the context, if any",
    ),
    "init": Option("identity", ("identity", "xavier", "normal"), "how the parameters start"),
}

FAMILIES: dict[str, Family] = {
    "gaussian": Family("flowvi.flows.gaussian:Gaussian", "Kingma & Welling 2014, arXiv:1312.6114", chain=False),
    "planar": Family(
        "flowvi.flows.planar:Planar",
        "Rezende & Mohamed 2015, arXiv:1505.05770, Eq. 10",
        {
            **_SOURCE,
            "invertibility": Option("centred", ("paper", "centred"), "the m(x) that keeps wᵀû above −1"),
        },
    ),
}


def family(kind: str) -> Family:
    """The registry's entry for `kind`.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in FAMILIES:
        near = difflib.get_close_matches(kind, FAMILIES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown flow kind {kind!r}: {hint}known kinds are {', '.join(sorted(FAMILIES))}")
    return FAMILIES[kind]


def check_options(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of `kind`: those given, checked, and the defaults of the rest.

    Raises:
        ConfigError: an option that the family does not have, or a value that it does not allow.
    """
    known = family(kind).options
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            has = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"unknown option {name!r} of flow kind {kind!r}: {hint}its options are {has}")
        if value not in known[name].allowed:
            allowed = ", ".join(map(str, known[name].allowed))
            raise ConfigError(f"option {name!r} of flow kind {kind!r} cannot be {value!r}: allowed are {allowed}")
    return {name: options.get(name, option.default) for name, option in known.items()}
