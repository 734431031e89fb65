"""Markdown tables of many results, beside the figures that others published. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from flowvi.errors import ConfigError
from flowvi.experiments.protocols import PROTOCOLS
from flowvi.flows.registry import family
from flowvi.reports.columns import Part, Table, markdown_line
from flowvi.reports.published import PUBLISHED, Published, Source
from flowvi.reports.tables import ABSENT, Record, finite, number, or_absent, posterior

__all__ = ["duration", "families_markdown", "mean_words", "results_markdown", "results_parts", "seeds_words"]

_HEADER = ("posterior", "result", "F(x)", "KL", "−ln p(x)", "seeds", "updates", "training")

# A row says what of these it does otherwise.
_ORDINARY: dict[str, tuple[Any, str]] = {
    "latents": ([40], "latents {}"),
    "maxout": ("1600-400", "maxout {}"),
    "parameters_source": ("amortised", "{} parameters"),
    "invertibility": (None, "{} invertibility"),
    "init": (None, "{} start"),
    "objective": ("elbo", "{}"),
    "training_samples": (1, "{} training samples"),
    "batch": (100, "batches of {}"),
    "flow_options": ((), "{}"),
    "precision": ("32", "{}"),
    "selection": (None, "weights by {}"),
    "estimator": ("is", "estimator {}"),
    "samples": (200, "S = {:,}"),
    "images": (10_000, "{:,} images"),
}


def results_parts(records: Iterable[Record], published: Sequence[Published] = PUBLISHED) -> list[Part]:
    """Tables of results, beside figures published for the same posterior, each with a paragraph on it.

    There is one table for each data set and binarisation. A row is one config, its seeds averaged; ± is the
    standard error over test images (the mean of the seeds': they share the images), and `s.d.` the standard
    deviation of −ln p(x) over seeds. Rows go by posterior, then protocol; `published` figures stand below
    ours where their source allows it.
    """
    rows = sorted(_groups(records), key=lambda group: _order(group[0]))
    tables = (_table(list(some), published) for _, some in groupby(rows, key=lambda group: _order(group[0])[:2]))
    return [part for parts in tables for part in parts] or ["*No results yet.*"]


def results_markdown(records: Iterable[Record], published: Sequence[Published] = PUBLISHED) -> str:
    """`results_parts` as Markdown."""
    parts = results_parts(records, published)
    return "\n\n".join(part.markdown() if isinstance(part, Table) else str(part) for part in parts)


def families_markdown(records: Iterable[Record], times: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table of results that differ in the posterior alone, the lowest −ln p(x) first.

    `times` are the milliseconds of a training step and of a test image for a preset, in words.
    """
    rows = sorted(records, key=lambda record: (not finite(record.get("nll")), record.get("nll")))
    header = "posterior", "options", "F(x)", "KL", "−ln p(x)", "parameters", "a step, ms", "a test image, ms"
    lines = [markdown_line(header), markdown_line(["---"] * 2 + ["---:"] * 6)]
    for row in rows:
        figures = (mean_words([row], key) for key in ("free_energy", "kl", "nll"))
        count = number(row.get("parameter_count"), 0)
        cost = times.get(str(row.get("config")), (ABSENT, ABSENT))
        lines.append(markdown_line((posterior(row), row.get("flow_options") or "", *figures, count, *cost)))
    return "\n".join(lines)


def _groups(records: Iterable[Record]) -> list[list[Record]]:
    """Results that differ in the seed alone."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        keys = (
            "config_hash",
            "data",
            "binarisation",
            "protocol",
            "flow",
            "length",
            "estimator",
            "samples",
            "images",
        )
        groups.setdefault(tuple(str(record.get(key)) for key in keys), []).append(record)
    return list(groups.values())


def _order(record: Record) -> tuple[Any, ...]:
    length, updates = (record.get(key) or 0 for key in ("length", "updates"))
    flow = "" if length == 0 else str(record.get("flow"))
    shared = str(or_absent(record, "data")), str(or_absent(record, "binarisation"))
    return *shared, flow, length, str(record.get("protocol")), updates, _label(record)


def _table(groups: Sequence[Sequence[Record]], published: Sequence[Published]) -> tuple[Part, Part]:
    data, binarisation, *_ = _order(groups[0][0])
    rows = []
    sources: dict[Source, None] = {}
    for (flow, length), some in groupby(groups, key=lambda group: _posterior_key(group[0])):
        rows += [_ours(group) for group in some]
        for row in published:
            beside = data == "mnist" and binarisation in row.source.binarisations
            if beside and (row.flow, row.length) == (flow, length):
                rows.append(_theirs(row))
                sources[row.source] = None
    note = (
        f"In nats, {data}, {binarisation} binarisation: mean ± standard error over the test images "
        "(10,000, with S = 200 importance samples each, where a row says no other). "
    )
    return Table(_HEADER, rows, left=2), (note + " ".join(source.note for source in sources)).rstrip()


def _posterior_key(record: Record) -> tuple[Any, Any]:
    return record.get("flow"), record.get("length")


def _ours(group: Sequence[Record]) -> tuple[str, ...]:
    first = group[0]
    seconds = [record["train_seconds"] for record in group if finite(record.get("train_seconds"))]
    return (
        posterior(first),
        f"**{_label(first)}**",
        *(mean_words(group, key) for key in ("free_energy", "kl", "nll")),
        seeds_words(group),
        number(first.get("updates"), 0),
        duration(statistics.fmean(seconds)) if seconds else ABSENT,
    )


def _theirs(row: Published) -> tuple[str, ...]:
    def figure(key: str) -> str:
        value: float | None = getattr(row, key)
        if value is None:
            return ABSENT
        return f"≈ {value:.1f}" if key in row.source.from_plot else f"{value}"

    words = posterior({"flow": row.flow, "length": row.length})
    figures = (figure(key) for key in ("free_energy", "kl", "nll"))
    return words, row.source.label, *figures, ABSENT, f"{row.source.updates:,}", ABSENT


def _label(record: Record) -> str:
    """Who and how: the protocol, and all that is not as usual under it."""
    protocol = str(or_absent(record, "protocol"))
    usual = PROTOCOLS.get(protocol, {})
    words = [f"flowvi, {protocol}"]
    for key, (ordinary, text) in _ORDINARY.items():
        value = record.get(key)
        if value is not None and value != (_usual(record, key, usual) if ordinary is None else ordinary):
            words.append(text.format(" + ".join(map(str, value)) if isinstance(value, list) else value))
    return ", ".join(words)


def _usual(record: Record, key: str, usual: Mapping[str, Any]) -> Any:
    """What a protocol sets; for an option that the family does not take so, the family's own default."""
    if key not in ("invertibility", "init"):
        return usual.get(f"training.{key}")
    try:
        option = family(str(record.get("flow"))).options.get(key)
    except ConfigError:
        option = None
    value = usual.get(f"flow.{key}")
    return value if option is None or option.allowed.take(value) else option.default


def mean_words(group: Sequence[Record], key: str) -> str:
    """The mean over seeds ± standard error; a dash or `NaN` where one seed has that."""
    means, errors = ([record.get(name) for record in group] for name in (key, f"{key}_se"))
    return f"{number(_average(means))} ± {number(_average(errors))}"


def _average(values: Sequence[Any]) -> float | None:
    if any(number(value) == ABSENT for value in values):
        return None
    return float(sum(values) / len(values))


def seeds_words(group: Sequence[Record]) -> str:
    """How many seeds, and the standard deviation of −ln p(x) over them."""
    values = [float(record["nll"]) for record in group if finite(record.get("nll"))]
    if len(group) < 2:
        return "1"
    return f"{len(group)}, s.d. {number(statistics.stdev(values)) if len(values) == len(group) else ABSENT}"


def duration(seconds: float) -> str:
    """A time as a person would say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
