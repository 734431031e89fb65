"""Tables of the estimates of ln p(x) that are not of importance sampling, apart from those. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flowvi.experiments.estimators.registry import ESTIMATORS
from flowvi.reports.columns import Part, Table
from flowvi.reports.tables import Record, figures, how, number, of_importance, or_absent, posterior

__all__ = ["estimate_parts"]


def estimate_parts(records: Iterable[Record]) -> list[Part]:
    """For each estimator but importance sampling a table, a row for each of its results, and how to read it.

    Results of importance sampling, and of estimators that do not exist, have no row.
    """
    found = [record for record in records if not of_importance(record)]
    parts: list[Part] = []
    for name, entry in ESTIMATORS.items():
        own = [record for record in found if record.get("estimator") == name]
        if own:
            parts += [_table(own), f"In nats where a column says no other, ± standard error over images. {entry.note}"]
    return parts


def _table(records: Sequence[Record]) -> Table:
    titles = [_title(name, unit) for name, _, _, unit in figures(records[0])]
    rows = [
        (
            f"{or_absent(record, 'config')}: {posterior(record)}",
            how(record),
            number(record.get("seed"), 0),
            number(record.get("images"), 0),
            *(f"{mean} ± {error}" if error else mean for _, mean, error, _ in figures(record)),
        )
        for record in records
    ]
    return Table(("model", "estimator", "seed", "images", *titles), rows, left=2)


def _title(name: str, unit: str) -> str:
    return name.strip() if unit == "nats" else f"{name.strip()} {unit}"
