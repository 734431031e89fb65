"""Table 2 of the paper from the results of Figure 4's grid, with costs and claims. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from flowvi.experiments.arms.figure4 import ARMS, GAUSSIAN, LENGTHS, OTHERS
from flowvi.experiments.arms.headline import is_headline
from flowvi.experiments.arms.store import Store, filled
from flowvi.reports.claims import CLAIMS, TOO_FEW, Finding, difference_words, judge
from flowvi.reports.columns import Section, Table
from flowvi.reports.comparison import duration, mean_words, seeds_words
from flowvi.reports.paired import ENOUGH_SEEDS, Difference, difference
from flowvi.reports.published import PAPER, QUOTED, REPRODUCTION, Source, published
from flowvi.reports.tables import ABSENT, finite, number

__all__ = [
    "SEEDS_NOTE",
    "comparable",
    "costs",
    "figures",
    "findings",
    "judged_claims",
    "printed",
    "sections",
    "settings",
    "trained_how",
]

_TITLES = {arm.name: arm.title for arm in ARMS}
_ORDER = (GAUSSIAN, *(f"{flow}-{length}" for flow in ("planar", "nice") for length in LENGTHS), *OTHERS)
_AGAINST = "planar-10", "planar-80"


def sections(folder: Path) -> list[Section]:
    """What a folder's `figure4.jsonl` says in tables.

    Raises:
        RunError: there are no results, or they cannot be read.
    """
    store = filled(folder, "figure4")
    judged = judged_claims(store)
    lines = tuple(line for finding in judged for line in finding.lines())
    return [
        Section("Table 2", [figures(store), *_notes(store)], _headline(store)),
        *_more_samples(store),
        Section("Cost, at equal updates", [costs(store), _COST_NOTE]),
        Section("Claims", [lines, _CLAIM_NOTE], findings(judged)),
    ]


def findings(judged: Sequence[Finding]) -> tuple[str, ...]:
    """A line on each claim that is decided, with its differences; then one on how many want seeds."""
    decided = [each for each in judged if each.verdict != TOO_FEW]
    lines = [f"**{each.verdict}**: {each.claim.words} ({'; '.join(each.measured())})." for each in decided]
    rest = len(judged) - len(decided)
    return (*lines, *([f"**{TOO_FEW}** for {rest} more claims about this grid."] if rest else []))


def printed(store: Store) -> list[str]:
    """The arms that there are results of, in the order of the tables."""
    return [arm for arm in _ORDER if store.of(arm)]


def figures(store: Store) -> Table:
    """F, KL and −ln p(x) of each arm, beside the paper's and the earlier reproduction's."""
    head = "posterior", "F(x)", "KL", "−ln p(x)", "seeds", "paper: F / KL / −ln p", "earlier: F / KL / −ln p"
    rows = []
    for arm in printed(store):
        group = store.of(arm)
        ours = (mean_words(group, key) for key in ("free_energy", "kl", "nll"))
        theirs = (_published(source, arm) for source in (PAPER, REPRODUCTION))
        rows.append((_TITLES[arm], *ours, seeds_words(group), *theirs))
    for row in QUOTED:
        rows.append((row.model, *[ABSENT] * 4, f"{row.nll:.2f}", ABSENT))
    return Table(head, rows)


def _more_samples(store: Store) -> list[Section]:
    """How far the estimates of −ln p(x) are off, if the runs were tested with more samples too."""
    rows = []
    for arm in printed(store):
        for record in store.of(arm):
            for more in record.get("more_samples") or []:
                change = f"{number(more['change'], 3)} ± {number(more['change_se'], 3)}"
                counts = (number(more[key], 0) for key in ("samples", "images"))
                rows.append((_TITLES[arm], number(record["seed"], 0), number(record["samples"], 0), *counts, change))
    head = "posterior", "seed", "S", "more samples", "test images", "change of −ln p(x)"
    return [Section("More importance samples", [Table(head, rows), _MORE_NOTE])] if rows else []


def costs(store: Store) -> Table:
    """What each arm costs, and how it stands against planar flows, image by image."""
    head = ["posterior", "−ln p(x)", "training", "parameters", *(f"− {_TITLES[arm]}" for arm in _AGAINST)]
    rows = []
    for arm in printed(store):
        group = store.of(arm)
        seconds = [record["train_seconds"] for record in group if finite(record.get("train_seconds"))]
        against = (ABSENT if arm == other else difference_words(_compare(store, arm, other)) for other in _AGAINST)
        nll, count = mean_words(group, "nll"), number(group[0].get("parameter_count"), 0)
        rows.append((_TITLES[arm], nll, duration(fmean(seconds)) if seconds else ABSENT, count, *against))
    return Table(head, rows)


def trained_how(store: Store) -> list[str]:
    """`settings` of the trainings that ended, as a paragraph; none where all failed."""
    done = [record for record in store.records if "failure" not in record]
    return [f"In nats: {settings(done)}."] if done else []


def settings(records: Sequence[dict[str, Any]]) -> str:
    """How the results were made, in a sentence."""
    first = records[0]
    given = " ".join(f"{key}={value}" for key, value in (first.get("overrides") or {}).items())
    words = [f"{first['budget']} budget" + (f", {given}" if given else "")]
    for key, text in _SETTINGS:
        values = sorted({record[key] for record in records if record.get(key) is not None}, key=str)
        words.append(text.format(" or ".join(number(v, 0) if isinstance(v, int) else str(v) for v in values) or ABSENT))
    return ", ".join(words)


_SETTINGS = (
    ("protocol", "{} protocol"),
    ("updates", "{} updates"),
    ("binarisation", "{} binarisation"),
    ("train_images", "{} training images"),
    ("images", "{} test images"),
    ("samples", "S = {} importance samples"),
)

_MORE_NOTE = (
    "In nats, paired by image over a random subset of the test images, ± standard error. −ln p(x) falls with more "
    "samples, by less than the bias of the figures above."
)
SEEDS_NOTE = (
    "Mean over seeds ± standard error over test images; s.d. is that of −ln p(x) over seeds. Importance sampling is "
    "biased: −ln p(x) up, and KL with it down."
)
_COST_NOTE = (
    "Training is the wall time of a run, mean over seeds, whatever else ran on the machine beside it. The last columns "
    "are paired differences of −ln p(x), in nats: below 0 is better than the planar flow. The row of equal time has "
    "as many updates as take the time of planar, K = 10."
)
_CLAIM_NOTE = (
    "Each difference is paired image by image, and seed by seed where both sides have the same seeds. In brackets: its "
    "95 % interval, images and seeds as independent sources, the seeds by Student's t. A claim is confirmed where all "
    "of its intervals lie below 0, refuted where one lies above; an interval takes "
    f"{ENOUGH_SEEDS} seeds or more on both sides; ± is the standard error over images alone."
)


def _notes(store: Store) -> list[str]:
    """What a reader must know of the figures."""
    names = {record.get("binarisation") for record in store.records}
    notes = [
        f"In nats: {settings(store.records)}. {SEEDS_NOTE}",
        f"{PAPER.note} The last rows are quoted there.",
        REPRODUCTION.note,
    ]
    if names != {"threshold"}:
        notes[-1] += " A thresholded image has far less entropy, so its figures are not to be compared with ours here."
    headline = "are" if is_headline(store.records) else "are not"
    notes.append(f"These runs {headline} the headline runs of results/headline.json.")
    return notes


def _published(source: Source, arm: str) -> str:
    flow, _, length = arm.partition("-")
    row = published(source, flow, int(length))
    if row is None:
        return ABSENT
    approximate = {key: "≈ " for key in source.from_plot}
    parts = (("free_energy", row.free_energy), ("kl", row.kl), ("nll", row.nll))
    return " / ".join(f"{approximate.get(key, '')}{value}" for key, value in parts)


def judged_claims(store: Store) -> list[Finding]:
    """The verdict on each claim, with what it rests on."""

    def compare(ours: str, theirs: str, figure: str) -> Difference | None:
        return _compare(store, ours, theirs, figure)

    return [judge(claim, compare) for claim in CLAIMS]


def _headline(store: Store) -> tuple[str, ...]:
    """−ln p(x) of planar flows along K, in a line, beside what was published of such data."""
    arms = [arm for arm in printed(store) if arm == GAUSSIAN or arm.startswith("planar-")]
    if not arms:
        return ()
    lengths = [int(arm.rpartition("-")[2]) for arm in arms]
    ours = [mean_words(store.of(arm), "nll") for arm in arms]
    words = (
        f"−ln p(x), planar flows of K = {' / '.join(map(str, lengths))}: {' / '.join(ours)} nats "
        f"({settings(store.records)})."
    )
    source = comparable(store)
    if source:
        theirs = [row for k in lengths if (row := published(source, "planar" if k else "gaussian", k))]
        words += f" {source.label}: {' / '.join(str(row.nll) for row in theirs)}."
    return (words,)


def comparable(store: Store) -> Source | None:
    """Whose figures may stand beside ours: that goes by the binarisation."""
    kinds = {record.get("binarisation") for record in store.records}
    return next((source for source in (PAPER, REPRODUCTION) if kinds <= set(source.binarisations)), None)


def _compare(store: Store, ours: str, theirs: str, figure: str = "nll") -> Difference | None:
    return difference(store.images(ours), store.images(theirs), figure)
