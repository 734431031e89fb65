"""What there is to audit: every registered family, in each way to build it, or anybody's own constructor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import torch

from flowvi.errors import ConfigError
from flowvi.flows import FAMILIES, build
from flowvi.flows.flow import Flow
from flowvi.flows.registry import Words, check_options, family

__all__ = ["CONTEXT", "FEATURES", "Subject", "find", "registered"]

CONTEXT = 5
FEATURES = "features"  # as an option's value: D, whatever it is

_SMALL = {"hidden": (8,)}  # networks whose size is not what is audited
_SOURCES = "parameters", "init"  # where the numbers come from: states and contexts vary these
_ALSO: dict[str, list[dict[str, Any]]] = {
    "householder": [{"reflections": 4}],
    "iaf": [{"gate_bias": 0.0}],
    "sylvester": [{"bottleneck": 1}, {"bottleneck": FEATURES}],
}
_MOST = {"gate_bias": 8}  # with it 0 a layer halves: 80 of them map the plane to a point, as far as float64 can tell
_COMPOSED = "planar+radial", "full_rank+iaf"
_ZUKO = "zuko.NSF", "zuko.MAF"


@dataclass(frozen=True)
class Subject:
    """One way to build one family.

    Attributes:
        kind: of the registry, or `module:constructor`.
        context: width of the context; 0 for a static flow.
        options: pairs of name and value, beside features, context and length.
        least: the fewest features it is audited at.
        most: the longest chain it is audited at, unless all sizes are; one of its layers is worth several.
        chain: false where there are no layers to count.
        inits: words that its option `init` may take; none where it has no such option.
        constructor: a user's own.

    Example:
        >>> Subject("planar", context=5, options=(("h", "leaky_relu"),)).build(features=2, length=3).length
        3
    """

    kind: str
    context: int = 0
    options: tuple[tuple[str, Any], ...] = ()
    least: int = 1
    most: int = 80
    chain: bool = True
    inits: tuple[str, ...] = ()
    constructor: Callable[..., Flow] | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The kind and its options, as the command takes them."""
        return " ".join([self.kind, *(f"{name}={value}" for name, value in self.options)])

    def __str__(self) -> str:
        return f"{self.name} {'amortised' if self.context else 'static'}"

    def build(self, features: int, length: int, **more: Any) -> Flow:
        """A flow as it starts; `more` are further options.

        Raises:
            ConfigError: the constructor does not take what it is given, or gives no flow.
            ShapeError: sizes that it refuses.
        """
        options = {name: features if value == FEATURES else value for name, value in self.options} | more
        if self.constructor is None:
            small = {name: value for name, value in _SMALL.items() if name in family(self.kind).options}
            return build(self.kind, features, self.context, length if self.chain else 0, **small | options)
        try:
            flow = self.constructor(features=features, context=self.context, length=length, **options)
        except TypeError as error:
            raise ConfigError(f"{self.kind} cannot be built: {error}") from error
        if not isinstance(flow, Flow):
            raise ConfigError(f"{self.kind} gives a {type(flow).__name__}: expected a flowvi.flows.Flow")
        return flow


def registered() -> Iterator[Subject]:
    """Every family of the registry, static and amortised, with each of its words; compositions; zuko's if it is here.

    Other options stand at their defaults, and at a second value where that makes another map.

    Example:
        >>> str(next(registered()))
        'gaussian static'
    """
    for kind, entry in FAMILIES.items():
        words = {
            name: option.allowed
            for name, option in entry.options.items()
            if isinstance(option.allowed, Words) and name not in _SOURCES
        }
        for values in product(*words.values()):
            given = dict(zip(words, values, strict=True))
            yield from _both(kind, {name: word for name, word in given.items() if word != entry.options[name].default})
        for options in _ALSO.get(kind, []):
            yield from _both(kind, options)
    for kind in (*_COMPOSED, *(_ZUKO if find_spec("zuko") else ())):
        yield from _both(kind, {})


def find(kind: str, options: Mapping[str, Any]) -> list[Subject]:
    """A kind of the registry, or a user's own `module:constructor`, static and amortised.

    Raises:
        ConfigError: no such kind, option, module or constructor.

    Example:
        >>> [str(subject) for subject in find("sylvester", {"variant": "triangular"})]
        ['sylvester variant=triangular static', 'sylvester variant=triangular amortised']
    """
    if ":" not in kind:
        check_options(kind, options)
        return list(_both(kind, options))
    module, _, name = kind.partition(":")
    try:
        constructor = getattr(import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{kind}: {error}; expected module:constructor, such as my_package.flows:MyFlow") from error
    if not callable(constructor):
        raise ConfigError(f"{kind} is not a constructor")
    pairs = _pairs(options)
    inits = ("identity",) if "init" not in options and _has_identity(constructor) else ()
    return [Subject(kind, context, pairs, inits=inits, constructor=constructor) for context in (0, CONTEXT)]


def _has_identity(constructor: Callable[..., Flow]) -> bool:
    """Whether it has an option `init` that takes the word."""
    try:
        if "init" in inspect.signature(constructor).parameters:
            with torch.random.fork_rng(devices=[]):
                constructor(features=2, context=0, length=1, init="identity")
            return True
    except (ConfigError, ValueError):  # another word's, or of a builtin without a signature
        pass
    return False


def _both(kind: str, options: Mapping[str, Any]) -> Iterator[Subject]:
    entry = family(kind)
    # up to D = 8 this is `auto`, which is audited anyway
    least = 9 if FEATURES in options.values() else entry.least
    most = min([3 if "zuko." in kind else 80, *(_MOST[name] for name in options if name in _MOST)])
    source = options.get("parameters", "auto")
    for context in (0, CONTEXT):
        if context or source != "amortised":
            inits = () if "init" in options else _inits(kind)
            yield Subject(kind, context, _pairs(options), least, most, entry.chain, inits)


def _inits(kind: str) -> tuple[str, ...]:
    """The words that all parts of a kind take."""
    allowed = [family(part).options["init"].allowed for part in kind.split("+") if "init" in family(part).options]
    words = [tuple(each) for each in allowed if isinstance(each, Words)]
    return tuple(word for word in (words[0] if words else ()) if all(word in each for each in words))


def _pairs(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in options.items())
