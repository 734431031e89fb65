"""How often training blew up, as a table. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from flowvi.experiments.arms.stability import ARMS
from flowvi.experiments.arms.store import Record, Store, filled
from flowvi.reports.columns import Section, Table
from flowvi.reports.table2 import trained_how
from flowvi.reports.tables import ABSENT, finite, number

__all__ = ["BLOWN", "blown", "counts", "sections"]

BLOWN = 20.0  # nats: several times what the noise of the mean over 1,000 images makes of a steady training

_NOTE = (
    f"Blown up: a loss or gradient that was not finite, or F (the mean over ten updates, at β = 1) more than {BLOWN:g} "
    "nats above its lowest so far, after the first 200 updates. Norm: of the whole gradient before it is clipped (but "
    "after each image's is bounded, where it is), the largest mean over ten updates. The step size is 1e-3 throughout. "
    "Plain start: Xavier, with the paper's constraint on u. F after training: on validation images, the lowest of each "
    "run's checks; mean and highest."
)


def sections(folder: Path) -> list[Section]:
    """What a folder's `stability.jsonl` says.

    Raises:
        RunError: there are no results, or they cannot be read.
    """
    store = filled(folder, "stability")
    table = counts(store)
    findings = tuple(f"Training, {row[0]}: {row[1]} runs blew up." for row in table.rows)
    return [Section("Stability of training", [table, *trained_how(store), _NOTE], findings)]


def blown(record: Record) -> bool:
    """Whether a training blew up; one that was too short to see is not said to have.

    Example:
        >>> blown({"rise": 21.0}), blown({"rise": 3.5}), blown({"rise": 3.5, "failure": "update 7: loss not finite"})
        (True, False, True)
    """
    return "failure" in record or (finite(record.get("rise")) and record["rise"] > BLOWN)


def counts(store: Store) -> Table:
    """Of each recipe: how many trainings blew up of how many, and their rises, norms and results."""
    head = "recipe", "blown up", "rise: median", "largest", "norm: largest", "F after: mean", "highest"
    rows = []
    for arm in ARMS:
        group = store.of(arm.name)
        if group:
            rises, norms, ends = (_values(group, key) for key in ("rise", "gradient_norm", "validation_free_energy"))
            rows.append(
                (
                    arm.title,
                    f"{sum(map(blown, group))} of {len(group)}",
                    number(median(rises), 1) if rises else ABSENT,
                    number(max(rises), 1) if rises else ABSENT,
                    number(max(norms), 0) if norms else ABSENT,
                    number(fmean(ends), 1) if ends else ABSENT,
                    number(max(ends), 1) if ends else ABSENT,
                )
            )
    return Table(head, rows)


def _values(group: Sequence[Record], key: str) -> list[float]:
    return [float(record[key]) for record in group if finite(record.get(key))]
