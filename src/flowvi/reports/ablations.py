"""The ablations' tables: each arm's figures, and how it differs from the arm next to it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowvi.experiments.arms.ablations import ABLATIONS, Ablation, Contrast
from flowvi.experiments.arms.store import Record, Store, filled
from flowvi.reports.answers import answer
from flowvi.reports.claims import difference_words
from flowvi.reports.columns import Part, Picture, Section, Table
from flowvi.reports.comparison import mean_words, seeds_words
from flowvi.reports.forest import draw_forest
from flowvi.reports.paired import Difference, difference
from flowvi.reports.table2 import settings
from flowvi.reports.tables import ABSENT, number

__all__ = ["contrasts", "figures", "findings", "measured", "sections"]

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
    store = filled(folder, "ablations")
    return [_section(each, store) for each in ABLATIONS]


def _section(ablation: Ablation, store: Store) -> Section:
    title = f"Ablation: {ablation.name}"
    names = [*(ablation.arm_name(point) for point in ablation.points()), *(arm.name for arm in ablation.references())]
    records = [record for name in names for record in store.of(name)]
    if not records:
        return Section(title, [ablation.question, "Not measured."])
    found = measured(ablation, store, "nll")
    answered = _answered(ablation, found)
    notes = [_NOTE, *([_OTHER_IMAGES] if "binarisation" in ablation.factors else [])]
    how = f"In nats: {settings(records)}. Mean over seeds ± standard error over test images."
    parts: list[Part] = [answered or f"**{ablation.question}**"]
    parts += [*([_picture(ablation, found)] if found else []), figures(ablation, store), how]
    return Section(title, [*parts, contrasts(ablation, store), *notes], (answered,) if answered else ())


def findings(store: Store) -> tuple[str, ...]:
    """Each question that there are results to, with its answer."""
    answers = (_answered(each, measured(each, store, "nll")) for each in ABLATIONS)
    return tuple(each for each in answers if each)


def _answered(ablation: Ablation, found: Sequence[tuple[Contrast, Difference]]) -> str | None:
    words = answer(ablation, found)
    return f"**{ablation.question}** {words}" if words else None


def _picture(ablation: Ablation, found: Sequence[tuple[Contrast, Difference]]) -> Picture:
    rows = [(f"{_what(contrast)}, {contrast.at}" if contrast.at else _what(contrast), each) for contrast, each in found]
    words = f"Differences of −ln p(x) in the ablation of {ablation.name}, each with its interval"
    return Picture(f"ablation-{ablation.name}", words, draw_forest(rows, "difference of −ln p(x), nats"))


def measured(ablation: Ablation, store: Store, figure: str) -> list[tuple[Contrast, Difference]]:
    """The differences of a figure that there are results of on both sides."""
    pairs = (
        (each, difference(store.images(each.arm), store.images(each.against), figure)) for each in ablation.contrasts()
    )
    return [(each, found) for each, found in pairs if found is not None]


def _what(contrast: Contrast) -> str:
    """Such as `threshold − fixed`."""
    return f"{contrast.level} − {contrast.other}"


def figures(ablation: Ablation, store: Store) -> Table:
    """F, KL and −ln p(x) of each arm, and its number of parameters."""
    rows = [(point, ablation.arm_name(point)) for point in ablation.points()]
    for arm in ablation.references():
        none, level = arm.name.split("/")[1:]
        levels = [level if factor == ablation.without else ABSENT for factor in ablation.factors]
        rows.append(((none, *levels[1:]), arm.name))
    head = (*ablation.factors, "F(x)", "KL", "−ln p(x)", "seeds", "parameters")
    left = len(ablation.factors)
    return Table(head, [(*levels, *_cells(store.of(name))) for levels, name in rows if store.of(name)], left)


def _cells(group: Sequence[Record]) -> tuple[str, ...]:
    ours = (mean_words(group, key) for key in ("free_energy", "kl", "nll"))
    return *ours, seeds_words(group), number(group[0].get("parameter_count"), 0)


def contrasts(ablation: Ablation, store: Store) -> Table:
    """Each arm against the one that differs from it in one factor alone."""
    both = zip(*(measured(ablation, store, figure) for figure in ("free_energy", "nll")), strict=True)
    rows = [
        (each.factor, _what(each), each.at or ABSENT, difference_words(bound), difference_words(found))
        for (each, bound), (_, found) in both
    ]
    return Table(("factor", "difference", "at", "of F(x)", "of −ln p(x)"), rows, left=3)
