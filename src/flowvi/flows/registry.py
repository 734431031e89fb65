"""The families of flows by kind: where each lives and which options it takes. Imports no torch.

A new family is one file in this folder and one entry here; the config validates against this table.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from flowvi.errors import ConfigError

__all__ = ["FAMILIES", "STARTS", "Family", "Number", "Option", "Sizes", "Whole", "Words", "check_options", "family"]


class Values(Protocol):
    """The values that an option may take; as text, in words."""

    def take(self, value: Any) -> bool:
        """Whether `value` is one of them."""
        ...


class Words(tuple[str, ...]):
    """A few words."""

    def take(self, value: Any) -> bool:
        """Whether `value` is one of them."""
        return value in self

    def __str__(self) -> str:
        return ", ".join(self)


@dataclass(frozen=True)
class Whole:
    """Whole numbers from `step` on, multiples of it; or `auto`, if so said."""

    step: int = 1
    auto: bool = False

    def take(self, value: Any) -> bool:
        """Whether `value` is such a number, or `auto`."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return (self.auto and value == "auto") or (whole and value >= self.step and value % self.step == 0)

    def __str__(self) -> str:
        step = self.step
        text = "whole numbers of at least 1" if step == 1 else f"{step}, {2 * step}, {3 * step}, …"
        return f"auto and {text}" if self.auto else text


@dataclass(frozen=True)
class Number:
    """Finite numbers."""

    def take(self, value: Any) -> bool:
        """Whether `value` is a finite number."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) <= sys.float_info.max  # a whole number may be too large for a float

    def __str__(self) -> str:
        return "finite numbers"


@dataclass(frozen=True)
class Sizes:
    """Lists of whole numbers."""

    def take(self, value: Any) -> bool:
        """Whether `value` is such a list."""
        return isinstance(value, list | tuple) and len(value) > 0 and all(Whole().take(size) for size in value)

    def __str__(self) -> str:
        return "lists of whole numbers of at least 1, such as [64,64]"


@dataclass(frozen=True)
class AnyOf:
    """What one or another takes, or nothing: each part's own default."""

    parts: tuple[Values, ...]

    def take(self, value: Any) -> bool:
        """Whether one of them takes `value`."""
        return value is None or any(part.take(value) for part in self.parts)

    def __str__(self) -> str:
        return "; or ".join(dict.fromkeys(map(str, self.parts)))


@dataclass(frozen=True)
class Option:
    """One option of a family: its default and the values it may take."""

    default: Any
    allowed: Values
    help: str


@dataclass(frozen=True)
class Family:
    """A family of bijections, as the registry lists it.

    Attributes:
        title: its name in a table.
        target: `module:constructor`.
        reference: the paper it comes from.
        cost: of a layer, for one point.
        inverse: how it is found.
        options: what it takes beside features, context and length.
        chain: false where there are no layers to count, so that the length can only be 0.
        least: the fewest features it takes.
        arguments: what else its constructor is told, where one constructor serves several kinds.
    """

    title: str
    target: str
    reference: str
    cost: str = "–"
    inverse: str = "–"
    options: Mapping[str, Option] = field(default_factory=dict)
    chain: bool = True
    least: int = 1
    arguments: Mapping[str, Any] = field(default_factory=dict)


_PARAMETERS = Option(
    "auto",
    Words(("auto", "amortised", "static")),
    "where the layers' parameters come from; auto: the context, if any",
)
STARTS = "identity", "xavier", "normal"
_INIT = Option("identity", Words(STARTS), "how the parameters start")
_SOURCE = {"parameters": _PARAMETERS, "init": _INIT}
_HIDDEN = Option((64, 64), Sizes(), "units of each hidden layer")

FAMILIES: dict[str, Family] = {
    "gaussian": Family(
        "Gaussian",
        "flowvi.flows.gaussian:Gaussian",
        "Kingma & Welling 2014, arXiv:1312.6114",
        chain=False,
    ),
    "full_rank": Family(
        "full-rank Gaussian",
        "flowvi.flows.full_rank:FullRankGaussian",
        "Kucukelbir et al. 2017, arXiv:1603.00788",
        cost="D²/2",
        inverse="triangular solve",
        options={"parameters": _PARAMETERS},
        chain=False,
    ),
    "planar": Family(
        "planar flow",
        "flowvi.flows.planar:Planar",
        "Rezende & Mohamed 2015, arXiv:1505.05770, Eq. 10",
        cost="2D",
        inverse="monotone root (tanh), closed form (leaky ReLU)",
        options={
            **_SOURCE,
            "invertibility": Option("centred", Words(("paper", "centred")), "the m(x) that keeps wᵀû above −1"),
            "h": Option("tanh", Words(("tanh", "leaky_relu")), "the nonlinearity"),
        },
    ),
    "radial": Family(
        "radial flow",
        "flowvi.flows.radial:Radial",
        "Rezende & Mohamed 2015, arXiv:1505.05770, Eq. 14",
        cost="2D",
        inverse="root of a quadratic",
        options=_SOURCE,
    ),
    "householder": Family(
        "Householder flow",
        "flowvi.flows.householder:Householder",
        "Tomczak & Welling 2016, arXiv:1611.09630",
        cost="2D a reflection",
        inverse="the reflections in reverse",
        options={**_SOURCE, "reflections": Option(2, Whole(step=2), "reflections of a layer, in pairs")},
        least=2,
    ),
    "sylvester": Family(
        "Sylvester flow",
        "flowvi.flows.sylvester:Sylvester",
        "van den Berg et al. 2018, arXiv:1803.05649",
        cost="2DM + M²",
        inverse="M monotone roots",
        options={
            **_SOURCE,
            "variant": Option("orthogonal", Words(("orthogonal", "householder", "triangular")), "what makes Q"),
            "bottleneck": Option(
                "auto", Whole(auto=True), "M, at most D; auto: min(8, D) for the orthogonal variant, else D"
            ),
            "reflections": Option("auto", Whole(auto=True), "that make Q, of the householder variant; auto: 8"),
        },
    ),
    "nice": Family(
        "NICE",
        "flowvi.flows.nice:NICE",
        "Dinh et al. 2014, arXiv:1410.8516",
        cost="a network of D/2 inputs",
        inverse="closed form",
        options={
            **_SOURCE,
            "mixing": Option("permutation", Words(("permutation", "orthogonal")), "what splits the features in two"),
            "hidden": _HIDDEN,
        },
        least=2,
    ),
    "realnvp": Family(
        "RealNVP",
        "flowvi.flows.realnvp:RealNVP",
        "Dinh et al. 2017, arXiv:1605.08803",
        cost="a network of D/2 inputs",
        inverse="closed form",
        options={**_SOURCE, "hidden": _HIDDEN},
        least=2,
    ),
    "iaf": Family(
        "IAF",
        "flowvi.flows.iaf:IAF",
        "Kingma et al. 2016, arXiv:1606.04934",
        cost="a network of D inputs",
        inverse="D passes",
        options={
            "parameters": _PARAMETERS,
            "init": Option(
                "gate", Words(("gate", "xavier", "normal")), "how the networks start; there is no identity: σ < 1"
            ),
            "gate_bias": Option(2.0, Number(), "added to the gate before the logistic"),
            "hidden": _HIDDEN,
        },
    ),
}
"""The families by kind: what `flow.kind` takes."""

_ZUKOS = "MAF", "NICE", "NSF", "RealNVP"  # those that zuko inverts in closed form
_ZUKO = Family(
    "zuko's",
    "flowvi.flows.zuko:Zuko",
    "the zuko package (`pip install flowvi[zuko]`)",
    cost="a network",
    inverse="zuko's",
    options={"parameters": _PARAMETERS, "hidden": _HIDDEN},
    least=2,
)


def family(kind: str) -> Family:
    """The registry's entry for `kind`: a key of `FAMILIES`, `zuko.NAME`, or several kinds joined by `+`.

    Raises:
        ConfigError: there is no such kind.

    Example:
        >>> family("planar").reference
        'Rezende & Mohamed 2015, arXiv:1505.05770, Eq. 10'
    """
    if "+" in kind:
        return _composed(kind.split("+"))
    package, _, name = kind.partition(".")
    if package == "zuko":
        names = {each.lower(): each for each in _ZUKOS}  # a result has it in lower case
        if name.lower() not in names:
            raise ConfigError(f"unknown flow kind {kind!r}: of zuko's flows, allowed are {', '.join(_ZUKOS)}")
        return replace(_ZUKO, title=f"{names[name.lower()]} (zuko)", arguments={"name": names[name.lower()]})
    if kind not in FAMILIES:
        near = difflib.get_close_matches(kind, FAMILIES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        known = f"known kinds are {', '.join(sorted(FAMILIES))}, zuko.NAME, and several joined by +"
        raise ConfigError(f"unknown flow kind {kind!r}: {hint}{known}")
    return FAMILIES[kind]


def check_options(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of `kind`: those given, checked, and the defaults of the rest.

    Raises:
        ConfigError: an option that the family does not have, or a value that it does not allow.

    Example:
        >>> check_options("sylvester", {"bottleneck": 4})["variant"]
        'orthogonal'
    """
    known = family(kind).options
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            has = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"unknown option {name!r} of flow kind {kind!r}: {hint}its options are {has}")
        if not known[name].allowed.take(value):
            allowed = known[name].allowed
            raise ConfigError(f"option {name!r} of flow kind {kind!r} cannot be {value!r}: allowed are {allowed}")
    return {name: options.get(name, option.default) for name, option in known.items()}


def _composed(kinds: list[str]) -> Family:
    """Several kinds over one base: an option is for each of them that takes its value."""
    if not all(kinds):
        raise ConfigError(f"unknown flow kind {'+'.join(kinds)!r}: expected kinds joined by +, such as planar+radial")
    parts = [family(kind) for kind in kinds]
    every: dict[str, list[Option]] = {}
    for part in parts:
        for name, option in part.options.items():
            every.setdefault(name, []).append(option)
    options = {name: some[0] if len(set(some)) == 1 else _merged(some) for name, some in every.items()}
    return Family(
        " + ".join(part.title for part in parts),
        "flowvi.flows.composed:compose",
        "; ".join(dict.fromkeys(part.reference for part in parts)),
        cost=" + ".join(part.cost for part in parts),
        inverse="each part's",
        options=options,
        chain=any(part.chain for part in parts),
        least=max(part.least for part in parts),
        arguments={"kinds": tuple(kinds)},
    )


def _merged(options: list[Option]) -> Option:
    """An option that parts have in common but not alike: unless it is given, each keeps its own default."""
    return Option(None, AnyOf(tuple(option.allowed for option in options)), options[0].help)
