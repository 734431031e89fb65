"""The command `python -m flowvi.flows.audit`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import torch

from flowvi.errors import ConfigError, FlowviError
from flowvi.flows.audit import PROPERTIES, Sizes, Subject, audit, find, registered, render
from flowvi.flows.audit.table import Row

__all__ = ["main"]

_FULL = Sizes((1, 2, 5, 40), (1, 8, 80), every=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit what the arguments name and print the table: 0 if all holds, 1 if a property broke, 2 for wrong usage."""
    parser = _Parser("python -m flowvi.flows.audit", description="Check every property that a family must have.")
    parser.add_argument("kind", nargs="?", help="a kind of flow, or module:constructor (every registered family)")
    parser.add_argument("options", nargs="*", metavar="name=value", help="its options")
    parser.add_argument("--features", metavar="D,…", help="numbers of dimensions (1,2,5)")
    parser.add_argument("--length", metavar="K,…", help="numbers of layers (1,8)")
    parser.add_argument("--dtype", default="float32,float64", help="float32, float64 or both")
    parser.add_argument("--properties", metavar="NAME,…", help=f"of {', '.join(PROPERTIES)} (all)")
    parser.add_argument("--full", action="store_true", help="D of 1, 2, 5, 40 and K of 1, 8, 80, in every state: hours")
    try:
        rows = _run(parser.parse_args(arguments))
    except FlowviError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(render(rows))
    return int(any(row.broken for row in rows))


def _run(asked: argparse.Namespace) -> list[Row]:
    sizes = _FULL if asked.full else Sizes()
    features = _wholes("--features", asked.features, 1) if asked.features else sizes.features
    lengths = _wholes("--length", asked.length, 1) if asked.length else sizes.lengths
    dtypes = [getattr(torch, word) for word in _words("--dtype", asked.dtype, ["float32", "float64"])]
    names = _words("--properties", asked.properties, list(PROPERTIES)) if asked.properties else list(PROPERTIES)
    subjects: Iterable[Subject] = registered()
    if asked.kind:
        subjects = find(asked.kind, dict(map(_option, asked.options)))
    rows = []
    for row in audit(subjects, Sizes(features, lengths, sizes.every), dtypes, names):
        rows.append(row)
        if row.findings:
            print(f"{row.name}: {'BROKEN' if row.broken else 'holds'}", file=sys.stderr, flush=True)
    if not any(row.findings for row in rows):
        reasons = [reason for row in rows for reason in row.refused.values()]
        raise ConfigError(f"nothing to audit at these sizes{': ' + reasons[0] if reasons else ''}")
    return rows


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ConfigError(f"{text!r}: expected name=value, such as variant=householder")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _wholes(name: str, text: str, least: int) -> list[int]:
    values = text.split(",")
    if not all(value.isdecimal() and int(value) >= least for value in values):
        raise ConfigError(f"{name} {text}: expected whole numbers of at least {least}, such as 2,5")
    return [int(value) for value in values]


def _words(name: str, text: str, allowed: list[str]) -> list[str]:
    words = text.split(",")
    if not set(words) <= set(allowed):
        raise ConfigError(f"{name} {text}: allowed are {', '.join(allowed)}")
    return words


if __name__ == "__main__":
    sys.exit(main())
