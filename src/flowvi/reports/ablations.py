"""The ablations' tables: each arm's figures, and how it differs from the arm next to it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowvi.errors import RunError
from flowvi.experiments.arms.ablations import ABLATIONS, Ablation, Contrast
from flowvi.experiments.arms.store import Store
from flowvi.reports.answers import answer
from flowvi.reports.claims import difference_words
from flowvi.reports.columns import Part, Picture, Section, Table
from flowvi.reports.comparison import mean_words, seeds_words
from flowvi.reports.forest import draw_forest
from flowvi.reports.paired import Difference, difference
from flowvi.reports.table2 import settings
from flowvi.reports.tables import ABSENT, number

__all__ = ["contrasts", "figures", "measured", "sections"]

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
    title = f"Ablation: {ablation.name}"
    records = [record for point in ablation.points() for record in store.of(ablation.arm_name(point))]
    if not records:
        return Section(title, [ablation.question, "Not measured."])
    found = measured(ablation, store, "nll")
    answered = answer(ablation, found)
    notes = [_NOTE, *([_OTHER_IMAGES] if "binarisation" in ablation.factors else [])]
    how = f"In nats: {settings(records)}. Mean over seeds ± standard error over test images."
    parts: list[Part] = [f"**{ablation.question}**", *([answered] if answered else [])]
    parts += [*([_picture(ablation, found)] if found else []), figures(ablation, store), how]
    findings = (f"**{ablation.question}** {answered}",) if answered else ()
    return Section(title, [*parts, contrasts(ablation, store), *notes], findings)


def _picture(ablation: Ablation, found: Sequence[tuple[Contrast, Difference]]) -> Picture:
    rows = [(f"{_what(ablation, contrast)}, {_others(ablation, contrast)}", each) for contrast, each in found]
    words = f"Differences of −ln p(x) in the ablation of {ablation.name}, each with its interval"
    return Picture(f"ablation-{ablation.name}", words, draw_forest(rows, "difference of −ln p(x), nats"))


def measured(ablation: Ablation, store: Store, figure: str) -> list[tuple[Contrast, Difference]]:
    """The differences of a figure that there are results of on both sides."""
    pairs = (
        (each, difference(store.images(each.arm), store.images(each.against), figure)) for each in ablation.contrasts()
    )
    return [(each, found) for each, found in pairs if found is not None]


def _what(ablation: Ablation, contrast: Contrast) -> str:
    """Such as `threshold − fixed`."""
    return f"{contrast.level} − {next(iter(ablation.factors[contrast.factor]))}"


def _others(ablation: Ablation, contrast: Contrast) -> str:
    """The levels of the other factors."""
    levels = zip(ablation.factors, contrast.arm.split("/")[1:], strict=True)
    return ", ".join(level for name, level in levels if name != contrast.factor) or ABSENT


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
    both = zip(*(measured(ablation, store, figure) for figure in ("free_energy", "nll")), strict=True)
    rows = [
        (each.factor, _what(ablation, each), _others(ablation, each), difference_words(bound), difference_words(found))
        for (each, bound), (_, found) in both
    ]
    return Table(("factor", "difference", "at", "of F(x)", "of −ln p(x)"), rows, left=3)
