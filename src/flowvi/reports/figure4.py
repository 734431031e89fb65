"""Draw Figure 4 from its files: F, KL and −ln p(x) against K, ours and what was published for such data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flowvi.experiments.arms.figure4 import ARMS, GAUSSIAN, LENGTHS, OTHERS
from flowvi.experiments.arms.gallery import read as read_gallery
from flowvi.experiments.arms.store import Store, filled
from flowvi.reports.columns import Picture, Section
from flowvi.reports.curves import draw_curves, draw_gallery
from flowvi.reports.published import Source, published
from flowvi.reports.style import BLUE, DPI, GREEN, GREY, INK, LABEL, PINK, SKY, SMALL, TITLE, VERMILION, quiet
from flowvi.reports.table2 import comparable, printed, settings
from flowvi.reports.table2 import sections as tables
from flowvi.reports.tables import finite

__all__ = ["sections"]

WIDTH, HEIGHT = 7.2, 2.8  # inches
PANELS = {"free_energy": "(a)  F(x), nats", "kl": "(b)  KL(q‖p), nats", "nll": "(c)  −ln p(x), nats"}
STYLES = {
    "planar": (BLUE, "o"),
    "nice": (VERMILION, "s"),
    "nice_time": (GREY, "s"),
    "radial": (GREEN, "^"),
    "sylvester": (PINK, "v"),
    "iaf": (SKY, "D"),
}
LINES = "planar", "nice"  # the paper's, along K
START, SIZE = "h", 3.8
DASHES = (0, (3, 2))
_CURVES_NOTE = (
    "F(x) at β = 1 in nats: in training a mean over 100 updates, on validation images one sample of each image. Every "
    "seed has its line."
)
_ARMS = {arm.name: arm for arm in ARMS}
_TITLES = {
    "planar": "planar",
    "nice": "NICE",
    **{arm.name.partition("-")[0]: arm.title for arm in ARMS if arm.name in OTHERS},
}


class _Point(NamedTuple):
    """A mean over seeds, and its bar."""

    length: int
    mean: float
    low: float
    high: float


def sections(folder: Path) -> list[Section]:
    """What a folder's `figure4.jsonl` holds, drawn, and in tables.

    Bars go from the lowest seed to the highest; of a single seed they are ± one standard error over test images.

    Raises:
        RunError: there are no results, or they cannot be read.
    """
    store = filled(folder, "figure4")
    words = "Free energy, KL and −ln p(x) of test images against the number of layers"
    drawn = [Section("Figure 4", [Picture("figure4", words, _figure(store))]), *tables(folder)]
    titles = {arm: _ARMS[arm].title for arm in printed(store)}
    curves = draw_curves({titles[arm]: store.of(arm) for arm in titles})
    if curves:
        words = "Free energy in training and on validation images, against updates"
        drawn.append(Section("Training", [Picture("figure4-training", words, curves), _CURVES_NOTE]))
    shown = read_gallery(folder, "figure4")
    gallery = draw_gallery({titles[arm]: shown[arm] for arm in titles if arm in shown and shown[arm].square})
    if gallery:
        words = "Test images, their reconstructions, and samples of each model"
        drawn.append(Section("Reconstructions and samples", [Picture("figure4-gallery", words, gallery)]))
    return drawn


def _figure(store: Store) -> Figure:
    figure = Figure((WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    panels = figure.subplots(1, len(PANELS))
    figure.subplots_adjust(left=0.055, right=0.99, top=0.91, bottom=0.33, wspace=0.22)
    source = comparable(store)
    for axes, (key, title) in zip(panels, PANELS.items(), strict=True):
        for flow in LINES:
            _theirs(axes, source, flow, key)
        for flow in _flows(store):
            _ours(axes, store, flow, key)
        _scales(axes, title, _lengths(store, source))
    _legend(figure, store, source)
    foot = _foot(store, source)
    figure.text(0.5, 0.025, foot, ha="center", size=SMALL, color=GREY, linespacing=1.35)
    return figure


def _flows(store: Store) -> list[str]:
    found = {arm.partition("-")[0] for arm in printed(store)}
    return [flow for flow in STYLES if flow in found]


def _lengths(store: Store, source: Source | None) -> list[int]:
    return [0, *LENGTHS] if source else sorted({int(arm.rpartition("-")[2]) for arm in printed(store)})


def _ours(axes: Axes, store: Store, flow: str, key: str) -> None:
    """A line from K = 0 along the paper's flows; a point for each other flow."""
    colour, marker = STYLES[flow]
    own = [arm for arm in printed(store) if arm.startswith(f"{flow}-")]
    points = sorted(point for arm in own if (point := _point(store, arm, key)) is not None)
    _bars_of(axes, points, colour)
    start = _point(store, GAUSSIAN, key) if flow in LINES else None
    line = [start, *points] if start else points
    if flow in LINES:
        axes.plot([p.length for p in line], [p.mean for p in line], color=colour, linewidth=1.2, zorder=3)
    at, means = [p.length for p in points], [p.mean for p in points]
    axes.plot(at, means, color=colour, marker=marker, markersize=SIZE, linestyle="none", zorder=4)
    if start:  # where the lines begin is neither flow's
        _bars_of(axes, [start], INK)
        axes.plot([0], [start.mean], color=INK, marker=START, markersize=SIZE, zorder=5)


def _bars_of(axes: Axes, points: Sequence[_Point], colour: str) -> None:
    axes.vlines(
        [p.length for p in points], [p.low for p in points], [p.high for p in points], color=colour, linewidth=1
    )


def _point(store: Store, arm: str, key: str) -> _Point | None:
    found = [record for record in store.of(arm) if finite(record.get(key))]
    if not found:
        return None
    values = [float(record[key]) for record in found]
    error = float(found[0].get(f"{key}_se") or 0.0) if len(found) == 1 else 0.0
    mean = fmean(values)
    return _Point(int(arm.rpartition("-")[2]), mean, min(values) - error, max(values) + error)


def _theirs(axes: Axes, source: Source | None, flow: str, key: str) -> None:
    """What was published, hollow and dashed."""
    if source is None:
        return
    colour, marker = STYLES[flow]
    rows = [published(source, flow if length else "gaussian", length) for length in (0, *LENGTHS)]
    points = [(row.length, getattr(row, key)) for row in rows if row is not None]
    if len(points) < 2:  # it has none of this flow
        return
    at, values = zip(*points, strict=True)
    axes.plot(at, values, color=colour, linewidth=0.8, linestyle=DASHES, zorder=2)
    hollow: Any = {"markersize": SIZE, "markerfacecolor": "white", "markeredgewidth": 0.8, "linestyle": "none"}
    axes.plot(at[1:], values[1:], color=colour, marker=marker, zorder=2, **hollow)
    axes.plot(at[:1], values[:1], color=INK, marker=START, zorder=2, **hollow)


def _scales(axes: Axes, title: str, lengths: Sequence[int]) -> None:
    axes.set_title(title, size=TITLE, color=INK, loc="left", pad=5)
    axes.set_xticks(lengths)
    axes.set_xlim(min(lengths) - 4, max(lengths) + 4)
    axes.set_xlabel("layers K", size=LABEL, color=INK, labelpad=2)
    axes.margins(y=0.08)
    quiet(axes)


def _legend(figure: Figure, store: Store, source: Source | None) -> None:
    """Colours and markers are flows; filled are ours, hollow the published."""
    shown = {*_flows(store), *(flow for flow in LINES if source and published(source, flow, LENGTHS[0]))}
    flows = [flow for flow in STYLES if flow in shown]
    handles = [_handle(INK, START, "no flow (K = 0)", "none")] if store.of(GAUSSIAN) else []
    handles += [_handle(*STYLES[flow], _TITLES[flow], "-" if flow in LINES else "none") for flow in flows]
    handles.append(_handle(GREY, START, "ours", "-"))
    if source:
        handles.append(_handle(GREY, START, source.label, DASHES, hollow=True))
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.2), ncols=min(len(handles), 6), fontsize=SMALL,
        frameon=False, handlelength=2.2, columnspacing=1.3, handletextpad=0.5,
    )  # fmt: skip


def _handle(colour: str, marker: str, label: str, line: Any, *, hollow: bool = False) -> Line2D:
    return Line2D(
        [], [], color=colour, marker=marker, markersize=SIZE, linewidth=0.8 if hollow else 1.2, linestyle=line,
        markerfacecolor="white" if hollow else colour, markeredgewidth=0.8, label=label,
    )  # fmt: skip


def _foot(store: Store, source: Source | None) -> str:
    """How ours were made and what the bars are; how exact the others are."""
    lines = [f"Ours: {settings(store.records)}"]
    seeds = {len(store.of(arm)) for arm in printed(store)}
    count = " or ".join(map(str, sorted(seeds)))
    many = f"Means of {count} seeds, bars from the lowest to the highest"
    many += " (of one seed: ± one standard error)" if 1 in seeds else ""
    words = "One seed, bars ± one standard error over test images" if seeds == {1} else many
    if source and source.from_plot:
        words += f". {source.label}: F and KL read off its figure"
    return "\n".join([*lines, words])
