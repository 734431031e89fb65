"""The ablations' tables: each arm's figures, and how it differs from the arm next to it. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from flowvi.errors import RunError
from flowvi.experiments.arms.ablations import ABLATIONS, Ablation
from flowvi.experiments.arms.store import Store
from flowvi.reports.claims import difference_words
from flowvi.reports.columns import Section, Table
from flowvi.reports.comparison import mean_words, seeds_words
from flowvi.reports.paired import Difference, difference
from flowvi.reports.table2 import settings
from flowvi.reports.tables import ABSENT, number

__all__ = ["contrasts", "figures", "sections"]

_NOTE = (
    "Paired image by image, and seed by seed where both sides have the same seeds; below 0, the level named is better. "
    "In brackets: the 95 % interval over images and seeds; with fewer than three seeds, ± the standard error over "
    "images alone, which decides nothing."
)
_OTHER_IMAGES = (
    "Other binarisations are other data: such a difference is one of entropy as well as of the model, and says which "
    "test is harder, not which model is better."
)


def sections(folder: Path) -> list[Section]:
    """What a folder's `ablations.jsonl` says, a section for each question.

    Raises:
        RunError: there are no results, or they cannot be read.
    """
    store = Store(folder, "ablations")
    if not store.records:
        raise RunError(f"there are no results in {store.lines}: run `flowvi reproduce ablations` first")
    return [_section(each, store) for each in ABLATIONS]


def _section(ablation: Ablation, store: Store) -> Section:
    records = [record for point in ablation.points() for record in store.of(ablation.arm_name(point))]
    if not records:
        return Section(ablation.name, [ablation.question, "Not measured."])
    notes = [_NOTE, *([_OTHER_IMAGES] if "binarisation" in ablation.factors else [])]
    how = f"In nats: {settings(records)}. Mean over seeds ± standard error over test images."
    return Section(
        ablation.name, [ablation.question, figures(ablation, store), how, contrasts(ablation, store), *notes]
    )


def figures(ablation: Ablation, store: Store) -> Table:
    """F, KL and −ln p(x) of each arm, and its number of parameters."""
    rows = []
    for point in ablation.points():
        group = store.of(ablation.arm_name(point))
        if group:
            ours = (mean_words(group, key) for key in ("free_energy", "kl", "nll"))
            rows.append((*point, *ours, seeds_words(group), number(group[0].get("parameter_count"), 0)))
    head = (*ablation.factors, "F(x)", "KL", "−ln p(x)", "seeds", "parameters")
    return Table(head, rows, left=len(ablation.factors))


def contrasts(ablation: Ablation, store: Store) -> Table:
    """Each arm against the one that differs from it in one factor alone."""
    rows = []
    for contrast in ablation.contrasts():
        ours, theirs = store.images(contrast.arm), store.images(contrast.against)
        if ours and theirs:
            levels = ablation.factors[contrast.factor]
            arm = contrast.arm.split("/")[1:]
            others = ", ".join(
                level for name, level in zip(ablation.factors, arm, strict=True) if name != contrast.factor
            )
            found: list[Difference | None] = [difference(ours, theirs, figure) for figure in ("free_energy", "nll")]
            what = f"{contrast.level} − {next(iter(levels))}"
            rows.append((contrast.factor, what, others or ABSENT, *map(difference_words, found)))
    return Table(("factor", "difference", "at", "of F(x)", "of −ln p(x)"), rows, left=3)
