"""Draw differences with their intervals, a line each. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from flowvi.reports.paired import Difference

__all__ = ["draw_forest"]

INK, GREY, RULE, BLUE = "#1c1c1c", "#6e6e6e", "#dddddd", "#0072b2"
SIZE, SMALL = 7.0, 6.0
WIDTH, LABELS, LINE, HEAD, FOOT = 7.2, 3.1, 0.19, 0.12, 0.42  # inches


def draw_forest(rows: Sequence[tuple[str, Difference]], title: str) -> Figure:
    """A point for each difference, and its 95 % interval; without seeds enough, hollow, ± the images' error.

    Args:
        rows: words and difference, from the top.
        title: of the axis, with its unit.
    """
    height = HEAD + LINE * len(rows) + FOOT
    figure = Figure((WIDTH, height), dpi=200, facecolor="white")
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
    axes.set_xlabel(title, size=SIZE, color=INK, labelpad=2)
    axes.tick_params(axis="x", labelsize=SMALL, length=2, color=GREY, labelcolor=INK)
    axes.tick_params(axis="y", labelsize=SMALL, length=0, labelcolor=INK)
    axes.grid(axis="x", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(color=GREY, linewidth=0.6)
    return figure
