"""The table that `flowvi test` prints. Imports no torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from flowvi.errors import ConfigError
from flowvi.experiments.estimators.registry import ESTIMATORS, Estimator, usable
from flowvi.flows.registry import family

__all__ = [
    "ABSENT",
    "Record",
    "figures",
    "finite",
    "how",
    "number",
    "of_importance",
    "or_absent",
    "posterior",
    "result_table",
]

WIDTH = 88
ABSENT = "–"

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
    cells = [("", "mean", "std. error", ""), *figures(result)]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    rows = [
        f"{name:<{widths[0]}}  {mean:>{widths[1]}} {'±' if name and error else ' '} {error:<{widths[2]}}  {unit}"
        for name, mean, error, unit in cells
    ]
    notes = [textwrap.fill(note, WIDTH) for note in _notes(result)]
    return "\n".join([*_described(facts), "", *(row.rstrip() for row in rows), "", *notes]).rstrip()


def figures(result: Record) -> list[tuple[str, str, str, str]]:
    """Name, mean, standard error and unit of each figure, in words; of an unknown estimator those of `is`.

    A figure that is no mean over images has no standard error: its place is empty.
    """
    entry = _estimator(result) or ESTIMATORS["is"]
    unknown = _estimator(result) is None
    found = []
    for name, key, unit, digits in entry.figures:
        error = number(result.get(f"{key}_se"), digits) if unknown or f"{key}_se" in result or unit == "nats" else ""
        found.append((_filled(name, result), number(result.get(key), digits), error, _filled(unit, result)))
    return found


def how(result: Record) -> str:
    """How it was tested, in words."""
    entry = _estimator(result)
    return _filled(entry.how, result) if entry else str(or_absent(result, "estimator"))


def of_importance(result: Record) -> bool:
    """Whether it is of importance sampling, as the paper's results are: the only ones to compare with them."""
    return str(result.get("estimator", "is")) == "is"


def _estimator(result: Record) -> Estimator | None:
    return ESTIMATORS.get(str(result.get("estimator")))


class _Words(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return ABSENT


def _filled(text: str, result: Record) -> str:
    """`text` with the values of a result in the place of `{key}`."""
    words = _Words()
    for key, value in result.items():
        words[key] = value if isinstance(value, str) else number(value, 0)
    return text.format_map(words)


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
    return f"{_images(result)}; {how(result)}"


def _images(result: Record) -> str:
    images = number(result.get("images"), 0)
    if result.get("split") == "simulated":
        return f"{images} images that the model made (seed {or_absent(result, 'simulation_seed')})"
    binarisation = f"{or_absent(result, 'binarisation')} binarisation"
    if result.get("binarisation") == "none":
        binarisation = "continuous pixels"
    if result.get("subset"):
        binarisation += f", a subset ({result['subset']})"
    return f"{images} {or_absent(result, 'split')} images of {or_absent(result, 'data')}, {binarisation}"


def _notes(result: Record) -> list[str]:
    entry = _estimator(result)
    notes = [entry.note] if entry else []
    if not usable(result):
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
