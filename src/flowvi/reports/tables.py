"""The table that `flowvi test` prints. Imports no torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from flowvi.errors import ConfigError
from flowvi.flows.registry import family

__all__ = ["ABSENT", "Record", "finite", "number", "or_absent", "posterior", "result_table"]

WIDTH = 88
ABSENT = "–"

_ESTIMATORS = {"is": "importance sampling"}
_SELECTIONS = {"validation": "the best on validation images", "last": "the last"}

Record = Mapping[str, Any]


def number(value: object, digits: int = 2) -> str:
    """A number as a reader should see it: `NaN` and `inf` are named, and what is no number is a dash."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ABSENT
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "−inf"
    text = f"{value:,.{digits}f}" if abs(value) < 1e9 else f"{value:.3g}"
    return text.replace("-", "−")


def result_table(result: Record) -> str:
    """One result as plain text of at most 88 columns: what was tested and how, then the figures.

    Args:
        result: a record as `flowvi.test` returns it. A figure it lacks is a dash; one that is not finite is
            `NaN` or `inf`.
    """
    facts = [
        ("model", f"{or_absent(result, 'config')}, seed {or_absent(result, 'seed')}: {_model(result)}"),
        ("training", _training(result)),
        ("test", _test(result)),
    ]
    figures = [
        ("free energy F(x)", "free_energy", "nats"),
        ("−ln p(x)", "nll", "nats"),
        ("KL = F(x) + ln p(x)", "kl", "nats"),
        ("effective sample size", "effective_samples", f"of {number(result.get('samples'), 0)}"),
    ]
    cells = [(name, number(result.get(k)), number(result.get(f"{k}_se")), unit) for name, k, unit in figures]
    cells.insert(0, ("", "mean", "std. error", ""))
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    rows = [
        f"{name:<{widths[0]}}  {mean:>{widths[1]}} {'±' if name else ' '} {error:<{widths[2]}}  {unit}"
        for name, mean, error, unit in cells
    ]
    notes = [textwrap.fill(note, WIDTH) for note in _notes(result)]
    return "\n".join([*_described(facts), "", *(row.rstrip() for row in rows), "", *notes]).rstrip()


def _described(facts: Sequence[tuple[str, str]]) -> list[str]:
    left = max(len(name) for name, _ in facts) + 2
    return [
        textwrap.fill(f"{name:<{left}}{text}", WIDTH, subsequent_indent=" " * left, break_on_hyphens=False)
        for name, text in facts
    ]


def _model(result: Record) -> str:
    latents = " + ".join(map(str, result.get("latents") or [])) or ABSENT
    return f"{posterior(result)}, {latents} latents, maxout {or_absent(result, 'maxout')}"


def posterior(result: Record) -> str:
    """The posterior of a result in words: `planar flow, K = 20`."""
    flow = str(or_absent(result, "flow"))
    try:
        title = family(flow).title
    except ConfigError:  # of another version
        title = f"{flow} flow"
    return f"{title}, K = {or_absent(result, 'length')}"


def _training(result: Record) -> str:
    selection = _SELECTIONS.get(str(result.get("selection")), or_absent(result, "selection"))
    chosen = f" (update {number(result['selected_update'], 0)})" if result.get("selected_update") else ""
    updates, images = number(result.get("updates"), 0), number(result.get("train_images"), 0)
    length = f"{or_absent(result, 'protocol')} protocol, {updates} updates on {images} images"
    return f"{length}; weights: {selection}{chosen}"


def _test(result: Record) -> str:
    images, samples = number(result.get("images"), 0), number(result.get("samples"), 0)
    estimator = _ESTIMATORS.get(str(result.get("estimator")), or_absent(result, "estimator"))
    where = f"{images} {or_absent(result, 'split')} images of {or_absent(result, 'data')}"
    how = f"{or_absent(result, 'binarisation')} binarisation"
    if result.get("binarisation") == "none":
        how = "continuous pixels"
    if result.get("subset"):
        how += f", a subset ({result['subset']})"
    return f"{where}, {how}; {estimator}, S = {samples} for each image"


def _notes(result: Record) -> list[str]:
    notes = []
    if result.get("estimator") == "is":
        notes.append(
            "−ln p(x) is an estimate by importance sampling, biased up, and KL with it down: "
            "the less, the more samples."
        )
    if any(not finite(result.get(key)) for key in ("free_energy", "nll", "kl")):
        notes.append("A figure is absent or not finite: do not use this result.")
    elif result.get("images") == 1:
        notes.append("One image alone has no standard error.")
    return notes


def finite(value: object) -> bool:
    """Whether it is a number, and a finite one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def or_absent(result: Record, key: str) -> Any:
    """What a result says under a key, or a dash."""
    value = result.get(key)
    return ABSENT if value is None else value
