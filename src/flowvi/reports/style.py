"""How the figures look: ink on paper, quiet axes, colours that everybody can tell apart."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes

__all__ = [
    "BLUE",
    "DPI",
    "GREEN",
    "GREY",
    "INK",
    "LABEL",
    "ORANGE",
    "PINK",
    "RULE",
    "SKY",
    "SMALL",
    "TITLE",
    "VERMILION",
    "quiet",
]

INK, GREY, RULE = "#1c1c1c", "#6e6e6e", "#dddddd"
# Okabe and Ito's
BLUE, VERMILION, GREEN, PINK, SKY, ORANGE = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
TITLE, LABEL, SMALL = 8.0, 7.0, 6.0  # points
DPI = 200


def quiet(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """Two thin spines, small ticks, rules across one direction, below the data."""
    axes.tick_params(labelsize=SMALL, length=2, color=GREY, labelcolor=INK, which="both")
    axes.grid(axis=grid, color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color=GREY, linewidth=0.6)
