"""Draw Figure 4 from its files: F, KL and −ln p(x) against K, ours and what was published for such data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flowvi.experiments.arms.figure4 import ARMS, GAUSSIAN, LENGTHS, OTHERS
from flowvi.experiments.arms.store import Store
from flowvi.experiments.run import atomic_write
from flowvi.reports.published import PAPER, REPRODUCTION, Source, published
from flowvi.reports.table2 import printed, read, settings
from flowvi.reports.table2 import write as write_tables
from flowvi.reports.tables import finite

__all__ = ["draw"]

WIDTH, HEIGHT, DPI = 7.2, 2.95, 200
INK, GREY, RULE = "#1c1c1c", "#6e6e6e", "#dddddd"
TITLE, LABEL, SMALL = 8.0, 7.0, 6.0
PANELS = {"free_energy": "(a)  F(x), nats", "kl": "(b)  KL(q‖p), nats", "nll": "(c)  −ln p(x), nats"}
# Okabe and Ito's colours, which everybody can tell apart
STYLES = {
    "planar": ("#0072b2", "o"),
    "nice": ("#d55e00", "s"),
    "radial": ("#009e73", "^"),
    "sylvester": ("#cc79a7", "v"),
    "iaf": ("#56b4e9", "D"),
}
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


def draw(folder: Path) -> list[Path]:
    """Draw what a folder's `figure4.jsonl` holds as `figure4.svg` and `figure4.png`, and write its tables beside them.

    Bars go from the lowest seed to the highest; of a single seed they are ± one standard error over test images.

    Returns:
        The two pictures, then the tables.

    Raises:
        RunError: there are no results, or a file cannot be read or written.
    """
    store = read(folder)
    figure = _figure(store)
    return [*(_save(figure, folder / f"figure4.{kind}") for kind in ("svg", "png")), *write_tables(folder)]


def _figure(store: Store) -> Figure:
    figure = Figure((WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    panels = figure.subplots(1, len(PANELS))
    figure.subplots_adjust(left=0.055, right=0.99, top=0.9, bottom=0.345, wspace=0.22)
    source = _source(store)
    for axes, (key, title) in zip(panels, PANELS.items(), strict=True):
        for flow in ("planar", "nice"):
            _theirs(axes, source, flow, key)
        for flow in _flows(store):
            _ours(axes, store, flow, key)
        _scales(axes, title, _lengths(store, source))
    _legend(figure, store, source)
    words = settings(store.records)
    figure.text(0.5, 0.012, f"Ours: {words}; {_bars(store)}.", ha="center", size=SMALL, color=GREY)
    return figure


def _source(store: Store) -> Source | None:
    """Whose figures may stand beside ours: that goes by the binarisation."""
    kinds = {record.get("binarisation") for record in store.records}
    return next((source for source in (PAPER, REPRODUCTION) if kinds <= set(source.binarisations)), None)


def _flows(store: Store) -> list[str]:
    found = {arm.partition("-")[0] for arm in printed(store)}
    return [flow for flow in STYLES if flow in found]


def _lengths(store: Store, source: Source | None) -> list[int]:
    return [0, *LENGTHS] if source else sorted({int(arm.rpartition("-")[2]) for arm in printed(store)})


def _ours(axes: Axes, store: Store, flow: str, key: str) -> None:
    """A line from K = 0 along the paper's flows; a point for each other flow."""
    colour, marker = STYLES[flow]
    other = any(arm.startswith(f"{flow}-") for arm in OTHERS)
    arms = [arm for arm in printed(store) if arm.startswith(f"{flow}-") or (arm == GAUSSIAN and not other)]
    points = sorted(point for arm in arms if (point := _point(store, arm, key)) is not None)
    if not points:
        return
    at = [point.length for point in points]
    means = [point.mean for point in points]
    axes.vlines(at, [p.low for p in points], [p.high for p in points], color=colour, linewidth=0.9, zorder=3)
    line = "none" if other else "-"
    axes.plot(at, means, color=colour, marker=marker, markersize=3.6, linewidth=1.2, linestyle=line, zorder=4)


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
    axes.plot(
        *zip(*points, strict=True), color=colour, marker=marker, markersize=3.6, linewidth=0.8, linestyle=(0, (3, 2)),
        markerfacecolor="white", markeredgewidth=0.8, zorder=2,
    )  # fmt: skip


def _scales(axes: Axes, title: str, lengths: Sequence[int]) -> None:
    axes.set_title(title, size=TITLE, color=INK, loc="left", pad=5)
    axes.set_xticks(lengths)
    axes.set_xlim(min(lengths) - 4, max(lengths) + 4)
    axes.set_xlabel("layers K", size=LABEL, color=INK, labelpad=2)
    axes.tick_params(labelsize=SMALL, length=2, color=GREY, labelcolor=INK)
    axes.grid(axis="y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.margins(y=0.08)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color=GREY, linewidth=0.6)


def _legend(figure: Figure, store: Store, source: Source | None) -> None:
    ours = [
        _handle(flow, f"{_TITLES[flow]}, ours", "none" if flow not in ("planar", "nice") else "-")
        for flow in _flows(store)
    ]
    theirs = []
    if source:
        read_off = " (F, KL read off its figure)" if source.from_plot else ""
        flows = [flow for flow in ("planar", "nice") if published(source, flow, LENGTHS[0])]
        theirs = [
            _handle(flow, f"{_TITLES[flow]}, {source.label}{read_off}", (0, (3, 2)), hollow=True) for flow in flows
        ]
    figure.legend(
        handles=[*ours, *theirs], loc="lower center", bbox_to_anchor=(0.5, 0.05), ncols=3, fontsize=SMALL,
        frameon=False, handlelength=2.4, columnspacing=1.4, labelspacing=0.35,
    )  # fmt: skip


def _handle(flow: str, label: str, line: str | tuple[int, tuple[int, int]], *, hollow: bool = False) -> Line2D:
    colour, marker = STYLES[flow]
    face = "white" if hollow else colour
    return Line2D(
        [], [], color=colour, marker=marker, markersize=3.6, linewidth=0.8 if hollow else 1.2, linestyle=line,
        markerfacecolor=face, markeredgewidth=0.8, label=label,
    )  # fmt: skip


def _bars(store: Store) -> str:
    seeds = {len(store.of(arm)) for arm in printed(store)}
    if seeds == {1}:
        return "one seed, bars: ± one standard error over test images"
    count = " or ".join(map(str, sorted(seeds)))
    return f"{count} seeds, their mean, bars: lowest to highest seed"


def _save(figure: Figure, out: Path) -> Path:
    """Draw first, write then; the same figure is the same bytes."""
    drawn, kind = io.BytesIO(), out.suffix[1:]
    with rc_context({"svg.hashsalt": "flowvi", "svg.fonttype": "path"}):
        figure.savefig(drawn, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    with atomic_write(out) as file:
        file.write(drawn.getvalue())
    return out
