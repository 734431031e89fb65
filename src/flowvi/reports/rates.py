"""Learning rates, as a table of families against rates. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from flowvi.experiments.arms.rates import FAMILIES, RATES
from flowvi.experiments.arms.store import Store, filled
from flowvi.reports.columns import Section, Table
from flowvi.reports.table2 import trained_how
from flowvi.reports.tables import ABSENT, finite, number

__all__ = ["by_rate", "sections"]

_NOTE = (
    "F(x) on validation images, the lowest of each run's checks, mean over seeds. An asterisk marks the lowest of a "
    "family; differences under half a nat are within what a seed makes."
)


def sections(folder: Path) -> list[Section]:
    """What a folder's `rates.jsonl` says.

    Raises:
        RunError: there are no results, or they cannot be read.
    """
    store = filled(folder, "rates")
    return [Section("Learning rates", [by_rate(store), *trained_how(store), _NOTE])]


def by_rate(store: Store) -> Table:
    """The validation free energy of each family at each rate; `failed` where a training was not finite."""
    rows = []
    for title, preset in FAMILIES.items():
        found = [_score(store, f"{preset}/{rate:g}") for rate in RATES]
        if any(score is not None for score in found):
            best = min((score for score in found if score is not None and finite(score)), default=None)
            rows.append((title, *(_words(score, best) for score in found)))
    return Table(("posterior", *(f"{rate:g}" for rate in RATES)), rows)


def _score(store: Store, arm: str) -> float | None:
    """The mean over seeds, infinite where one failed."""
    group = store.of(arm)
    if any("failure" in record for record in group):
        return float("inf")
    scores = [float(record["validation_free_energy"]) for record in group if finite(record["validation_free_energy"])]
    return fmean(scores) if scores else None


def _words(score: float | None, best: float | None) -> str:
    if score is None:
        return ABSENT
    if not finite(score):
        return "failed"
    return f"{number(score)}{' *' if score == best else ''}"
