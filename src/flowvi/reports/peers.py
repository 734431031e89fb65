"""`flowvi.fit` beside other packages: the records of `python -m benchmarks fit` as tables. Imports no torch.

A contender's name may end with its setting in brackets: each stands in the tables with the best of its settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import Any

from flowvi.reports.columns import Table
from flowvi.reports.tables import number

__all__ = ["OURS", "fit_table", "peers_markdown"]

Record = dict[str, Any]
OURS = "flowvi"
MATTERS = 0.01
"""Nats: a smaller difference of ELBO is nothing that a posterior's user sees."""


def fit_table(records: Sequence[Record]) -> str:
    """A row for each target and contender, each peer at the best of its settings; then the summary."""
    head = f"{'target':<26}{'contender':<24}{'ELBO':>10}{'± se':>8}{'gap':>8}{'marginal':>10}{'CPU s':>8}  setting"
    return "\n".join([head, *_rows(records), "", *_summary(records)])


def peers_markdown(records: Sequence[Record]) -> str:
    """A row for each target: of each contender ln Z − ELBO and the median marginal error; then the summary."""
    names = list(dict.fromkeys(_family(each) for each in _unique(records, "contender")))
    found = {target: _best(records, target) for target in _unique(records, "target")}
    rows = [
        (
            target,
            number(fmean(record["seconds"] for record in best[OURS]), 0),
            *(_both(best.get(name)) for name in names),
        )
        for target, best in found.items()
    ]
    lines = "\n".join(f"- {line}." for line in _summary(records))
    return f"{Table(('target', 'CPU s', *names), rows).markdown()}\n\n{lines}"


def _both(group: Sequence[Record] | None) -> str:
    parts = ((_gap(group), 3), (_marginal(group), 1))
    return " / ".join("–" if math.isnan(value) else number(value, digits) for value, digits in parts)


def _gap(group: Sequence[Record] | None) -> float:
    """ln Z − ELBO in nats, NaN where one is not known."""
    return group[0].get("log_z", math.nan) - _elbo(group)[0] if group else math.nan


def _marginal(group: Sequence[Record] | None) -> float:
    errors = [float(record["marginal_error"]) for record in group or () if "marginal_error" in record]
    return median(errors or [math.nan])


def _rows(records: Sequence[Record]) -> Iterator[str]:
    for target in _unique(records, "target"):
        for name, group in _best(records, target).items():
            elbo, se = _elbo(group)
            words = list(dict.fromkeys(_words(record) for record in group))
            numbers = elbo, se, _gap(group), _marginal(group)
            cells = "".join(map(_cell, numbers, (10, 8, 8, 10), (3, 4, 3, 1)))
            seconds = fmean(record["seconds"] for record in group)
            yield f"{target:<26}{name:<24}{cells}{seconds:>8.1f}  {'; '.join(words)}"


def _cell(value: float, width: int, digits: int) -> str:
    return "–".rjust(width) if math.isnan(value) else f"{value:>{width}.{digits}f}"


def _words(record: Record) -> str:
    if "error" in record:
        return f"failed: {record['error'][:60]}"
    keys = {"setting": "", "verdict": "", "steps": " steps", "draws": " draws"}
    return ", ".join(f"{record[key]}{unit}" for key, unit in keys.items() if key in record)


def _summary(records: Sequence[Record]) -> Iterator[str]:
    """flowvi's ELBO beside each other's, on the targets where both have one."""
    targets = _unique(records, "target")
    for name in dict.fromkeys(_family(each) for each in _unique(records, "contender")):
        both = [found for target in targets if {OURS, name} <= (found := _best(records, target)).keys()]
        pairs = [(_elbo(found[OURS]), _elbo(found[name])) for found in both]
        pairs = [(ours, other) for ours, other in pairs if not math.isnan(other[1])]
        if name == OURS or not pairs:
            continue
        off = [(ours[0] - other[0], 2 * math.hypot(ours[1], other[1])) for ours, other in pairs]
        higher, lower = (sum(sign * each > error for each, error in off) for sign in (1, -1))
        matters = sum(each > max(error, MATTERS) for each, error in off)
        yield (
            f"flowvi's ELBO is higher than {name}'s by more than twice the error on {higher} of {len(off)} targets "
            f"(by more than {MATTERS} nats too on {matters}), lower on {lower}; median {median(o for o, _ in off):+.3f}"
        )


def _best(records: Sequence[Record], target: str) -> dict[str, list[Record]]:
    """Each contender's records of all seeds, at the setting of the highest ELBO; a failure stands if all is failure."""
    by_setting: dict[str, list[Record]] = {}
    for record in records:
        if record["target"] == target:
            by_setting.setdefault(record["contender"], []).append(record)
    best: dict[str, list[Record]] = {}
    for contender, group in by_setting.items():
        name = _family(contender)
        if name not in best or _rank(group) > _rank(best[name]):
            best[name] = group
    return best


def _rank(group: Sequence[Record]) -> float:
    elbo, _ = _elbo(group)
    return -math.inf if math.isnan(elbo) else elbo


def _elbo(group: Sequence[Record]) -> tuple[float, float]:
    """Mean over seeds and its error by the draws; NaN where there is none, −inf ± 0 where an optimisation blew up."""
    if any("elbo" not in record for record in group):
        return math.nan, math.nan
    mean = fmean(float(record["elbo"]) for record in group)
    se = math.sqrt(sum(float(record["elbo_se"]) ** 2 for record in group)) / len(group)
    return mean, se if math.isfinite(mean) else 0.0


def _family(contender: str) -> str:
    """A contender's name without its setting."""
    return contender.partition(" (")[0]


def _unique(records: Sequence[Record], key: str) -> list[str]:
    return list(dict.fromkeys(record[key] for record in records))
