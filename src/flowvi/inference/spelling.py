"""Supports in words, `mu=real,theta=real:8`, as a command line has them. Only `support` imports torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flowvi.errors import ConfigError

if TYPE_CHECKING:
    from flowvi.inference.supports import Support

__all__ = ["SPELLINGS", "Spelled", "parse_supports", "support"]

Spelled = tuple[str, tuple[float, ...]]
"""A support's name and its arguments."""

SPELLINGS: Mapping[str, str] = {
    "real": "real, real:8, real:2:3",
    "positive": "positive, positive:8",
    "unit_interval": "unit_interval, unit_interval:8",
    "interval": "interval:-1:1, interval:-1:1:8",
    "simplex": "simplex:3",
    "ordered": "ordered:3",
    "correlation_cholesky": "correlation_cholesky:3",
}
"""The supports by the function of `flowvi.supports` that makes them, each with its ways to be spelled."""


def parse_supports(text: str) -> dict[str, Spelled]:
    """The supports of parameters by name, from `NAME=SUPPORT[:ARGUMENT…],…`.

    Raises:
        ConfigError: what is no such word; a name that comes twice; an unknown support; an argument that is no number.

    Example:
        >>> parse_supports("mu=real,theta=real:8,rho=interval:-1:1")
        {'mu': ('real', ()), 'theta': ('real', (8,)), 'rho': ('interval', (-1, 1))}
    """
    found: dict[str, Spelled] = {}
    for word in text.split(","):
        name, equals, spelled = (part.strip() for part in word.partition("="))
        if not (name and equals and spelled):
            raise ConfigError(f"{word.strip()!r} is no parameter: expected NAME=SUPPORT, such as mu=real,theta=real:8")
        if name in found:
            raise ConfigError(f"the parameter {name!r} is given twice")
        kind, *arguments = spelled.split(":")
        check_name(kind)
        found[name] = kind, tuple(_number(argument, word.strip()) for argument in arguments)
    return found


def check_name(name: object) -> None:
    """Refuse what is no support's name.

    Raises:
        ConfigError: names those that there are.
    """
    if name not in SPELLINGS:
        near = difflib.get_close_matches(str(name), SPELLINGS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"unknown support {name!r}: {hint}The supports are {', '.join(SPELLINGS)}")


def support(name: str, arguments: Sequence[float]) -> Support:
    """The support of a name and arguments; `Support.name` and `Support.arguments` are what it takes.

    Raises:
        ConfigError: an unknown name, or too few or too many arguments, or bounds that are not allowed.
        ShapeError: a size that is not allowed.

    Example:
        >>> support("interval", (0, 1, 3)) == support("interval", (0, 1, 3)), support("real", (8,))
        (True, real(8))
    """
    check_name(name)
    from flowvi.inference import supports

    try:
        made: Support = getattr(supports, name)(*arguments)
    except TypeError:
        spelled = ":".join(map(str, (name, *arguments)))
        raise ConfigError(f"{spelled} has too few or too many numbers: expected {SPELLINGS[name]}") from None
    return made


def _number(text: str, word: str) -> float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise ConfigError(f"{text!r} in {word!r} is no number: expected one, such as theta=real:8 or rho=interval:-1:1")
