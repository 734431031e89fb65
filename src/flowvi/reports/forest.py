"""Draw differences with their intervals, a line each. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from flowvi.reports.paired import Difference
from flowvi.reports.style import BLUE, DPI, GREY, INK, LABEL, quiet

__all__ = ["draw_forest"]

WIDTH, LABELS, LINE, HEAD, FOOT = 7.2, 3.1, 0.19, 0.12, 0.42  # inches


def draw_forest(rows: Sequence[tuple[str, Difference]], title: str) -> Figure:
    """A point for each difference, and its 95 % interval; without seeds enough, hollow, ± the images' error.

    Args:
        rows: words and difference, from the top.
        title: of the axis, with its unit.
    """
    height = HEAD + LINE * len(rows) + FOOT
    figure = Figure((WIDTH, height), dpi=DPI, facecolor="white")
    box = LABELS / WIDTH, FOOT / height, 1 - (LABELS + 0.12) / WIDTH, 1 - (FOOT + HEAD) / height
    axes = figure.add_axes(box)
    axes.axvline(0, color=GREY, linewidth=0.8)
    for place, (_, each) in enumerate(rows):
        low, high = each.interval if each.enough else (each.mean - each.image_error, each.mean + each.image_error)
        if not math.isnan(low + high):
            axes.hlines(place, low, high, color=BLUE, linewidth=1.2)
        axes.plot(
            [each.mean], [place], "o", color=BLUE, markersize=3.6, markerfacecolor=BLUE if each.enough else "white"
        )
    axes.set_yticks(range(len(rows)), [words for words, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(title, size=LABEL, color=INK, labelpad=2)
    quiet(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure
