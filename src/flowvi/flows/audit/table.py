"""The table of an audit: a row for each family, a column for each property, and what broke, in words."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import torch

from flowvi.errors import ShapeError
from flowvi.flows.audit.findings import Finding
from flowvi.flows.audit.properties import DTYPES, PROPERTIES, Sizes, check, settings
from flowvi.flows.audit.states import Setting
from flowvi.flows.audit.subjects import Subject

__all__ = ["Row", "audit", "render"]

_TABLES = list(PROPERTIES)[:5], list(PROPERTIES)[5:]
_MOST_LINES = 20


@dataclass
class Row:
    """What was found of one way to build a family, static and amortised together.

    Attributes:
        name: the kind and its options.
        findings: by property and dtype.
        broken: a line for each property that broke at some setting.
        refused: sizes that the constructor refused, with its reasons.
    """

    name: str
    findings: dict[str, dict[torch.dtype, list[Finding]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    broken: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def cell(self, name: str) -> str:
        """One property: the largest error in each dtype, a mark where it broke, and the points beyond."""
        if name not in self.findings:
            return "–"
        worst = {dtype: Finding.worst(found) for dtype, found in self.findings[name].items()}
        figures = " / ".join(_figure(worst[dtype], PROPERTIES[name].counts) for dtype in DTYPES if dtype in worst)
        beyond = sum(finding.beyond for finding in worst.values())
        mark = "" if all(finding.holds for finding in worst.values()) else " !"
        return figures + (f" +{beyond}" if beyond else "") + mark


def audit(
    subjects: Iterable[Subject],
    sizes: Sizes,
    dtypes: Collection[torch.dtype] = DTYPES,
    names: Collection[str] = tuple(PROPERTIES),
) -> Iterator[Row]:
    """Check the named properties on each subject; those of one name, which follow one another, make a row.

    Raises:
        ConfigError: a constructor that does not take what it is given.

    Example:
        >>> from flowvi.flows.audit import find
        >>> (row,) = audit(find("gaussian", {}), Sizes((2,), (1,)), names=["log-det", "own samples"])
        >>> row.broken
        []
    """
    row: Row | None = None
    for subject in subjects:
        if row is not None and row.name != subject.name:
            yield row
            row = None
        row = row or Row(subject.name)
        for name in names:
            for setting in settings(name, subject, sizes):
                if _takes(setting, row):
                    for dtype in (dtype for dtype in PROPERTIES[name].dtypes if dtype in dtypes):
                        _add(row, name, setting, dtype)
    if row is not None:
        yield row


def _takes(setting: Setting, row: Row) -> bool:
    """Whether the constructor takes these sizes. (What else it refuses is the user's mistake.)"""
    try:
        with torch.random.fork_rng(devices=[]):
            setting.subject.build(setting.features, setting.length)
    except ShapeError as error:
        row.refused[f"D = {setting.features}, K = {setting.length}"] = str(error)
        return False
    return True


def _add(row: Row, name: str, setting: Setting, dtype: torch.dtype) -> None:
    finding = check(name, setting, dtype)
    row.findings[name][dtype].append(finding)
    if not finding.holds:
        times = f", {finding.ratio:.2g} times the bound" if math.isfinite(finding.ratio) else ""
        note = f" ({finding.note})" if finding.note else ""
        precision = str(dtype).removeprefix("torch.")
        row.broken.append(f"{name}: {setting}, {precision}: {_figure(finding, False)}{times}{note}")


def _figure(finding: Finding, counts: bool) -> str:
    if counts and math.isfinite(finding.error):
        return f"{finding.error:.0f}"
    if finding.error == 0:
        return "0"
    return f"{finding.error:.0e}".replace("e-0", "e-").replace("e+0", "e+") if math.isfinite(finding.error) else "inf"


def render(rows: list[Row]) -> str:
    """The tables, a legend, and what broke.

    Example:
        >>> from flowvi.flows.audit import find
        >>> rows = list(audit(find("gaussian", {}), Sizes((2,), (1,)), names=["log-det"]))
        >>> "gaussian" in render(rows)
        True
    """
    shown = [row for row in rows if row.findings]
    return "\n\n".join([*(_table(shown, names) for names in _TABLES), _legend(), *_lines(rows)])


def _table(rows: list[Row], names: list[str]) -> str:
    cells = [["", *names], *([row.name, *(row.cell(name) for name in names)] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])


def _legend() -> str:
    width = max(map(len, PROPERTIES))
    return "\n".join(
        [
            "Largest error in float32 / float64 (float64 alone: derivative, integral; float32 alone: compile).",
            "!: a bound was broken. +n: n points were left out, where rounding alone (κ·ε > 1e-2, κ the Jacobian's",
            "condition number) or the float's range allows no bound.",
            *(f"{name.ljust(width)}  {asked.legend}" for name, asked in PROPERTIES.items()),
        ]
    )


def _lines(rows: list[Row]) -> Iterator[str]:
    broken = [line for row in rows for line in row.broken]
    if broken:
        more = [f"… and {len(broken) - _MOST_LINES} more"] if len(broken) > _MOST_LINES else []
        yield "\n".join(["Broken:", *broken[:_MOST_LINES], *more])
    refused = [f"{row.name}, {size}: {reason}" for row in rows for size, reason in row.refused.items()]
    if refused:
        yield "\n".join(["Sizes that a constructor refused:", *refused])
