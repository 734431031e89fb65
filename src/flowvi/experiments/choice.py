"""Rows chosen by name. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from flowvi.errors import ConfigError

__all__ = ["choose"]

T = TypeVar("T")


def choose(items: Sequence[T], only: Sequence[str], name: Callable[[T], str] = str) -> list[T]:
    """The items whose name fits one of the patterns (`*` is anything), in their order; without patterns, all.

    Raises:
        ConfigError: a pattern that fits none.

    Example:
        >>> choose(["planar-10", "planar-80", "nice-10"], ["planar-*"])
        ['planar-10', 'planar-80']
    """
    names = [name(item) for item in items]
    for pattern in only:
        if not any(fnmatchcase(each, pattern) for each in names):
            raise ConfigError(f"no row fits --only {pattern!r}: there are {', '.join(names)}")
    fitting = {each for each in names if not only or any(fnmatchcase(each, pattern) for pattern in only)}
    return [item for item, each in zip(items, names, strict=True) if each in fitting]
