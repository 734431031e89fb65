"""The pictures of a fit: marginals, pairs, and the tail of the weights. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flowvi.reports.style import BLUE, DPI, GREY, INK, LABEL, SKY, SMALL, TITLE, VERMILION, quiet

__all__ = ["draw_marginal", "draw_pairs", "draw_tail"]

Column = npt.NDArray[np.float64]
_SHOWN = 0.002, 0.998  # the quantiles between which draws are shown: one far draw must not flatten the rest
_BINS = 40
_CELLS = 48  # of a pair's panel, each way
_INSIDE = 0.9, 0.5  # the shares of draws within the contours
_DOTS = 250


def draw_marginal(column: Column, weights: Column | None) -> Figure:
    """The density of draws (n,), and that of the same draws by weights (n,) that sum to one."""
    figure = Figure((2.0, 1.1), dpi=DPI)
    axes = figure.add_axes((0.03, 0.23, 0.94, 0.74))
    low, high = np.quantile(column, _SHOWN)
    edges = np.linspace(low, high, _BINS + 1)
    axes.stairs(_smooth(np.histogram(column, edges)[0] / len(column)), edges, fill=True, color=SKY, alpha=0.75)
    if weights is not None:
        weighted = _smooth(np.histogram(column, edges, weights=weights)[0])
        axes.stairs(weighted, edges, color=VERMILION, linewidth=1.0, baseline=None)
    axes.set_xlim(low, high)
    axes.set_ylim(bottom=0)
    quiet(axes, "x")
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(axis="x", labelsize=TITLE)
    return figure


def draw_pairs(columns: Mapping[str, Column]) -> Figure:
    """Each two of a few columns of draws (n,): contours that hold half and 90 % of the draws, and some of them."""
    names = list(columns)
    last = len(names) - 1
    side = 1.25 if last > 2 else 1.9
    figure = Figure((side * last + 0.75, side * last + 0.55), dpi=DPI)
    panels = figure.subplots(last, last, squeeze=False)
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=0.7 / width, right=1 - 0.05 / width, bottom=0.5 / height, top=1 - 0.05 / height, wspace=0.08, hspace=0.08
    )
    for row in range(last):
        for place in range(last):
            axes = panels[row, place]
            if place > row:
                axes.set_axis_off()
                continue
            _pair(axes, columns[names[place]], columns[names[row + 1]])
            _labels(axes, names[place] if row == last - 1 else None, names[row + 1] if place == 0 else None)
    return figure


def _pair(axes: Axes, x: Column, y: Column) -> None:
    limits = [tuple(np.quantile(column, _SHOWN)) for column in (x, y)]
    (left, right), (low, high) = limits
    counts, x_edges, y_edges = np.histogram2d(x, y, _CELLS, range=limits)
    density = _smooth(_smooth(counts.T, 2.0).T, 2.0)
    levels = [level for level in _levels(density) if level > 0]
    centres = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
    axes.scatter(x[:_DOTS], y[:_DOTS], s=1.2, color=GREY, alpha=0.5, linewidths=0)
    if len(levels) == len(_INSIDE) and levels[0] < levels[1] < density.max():
        axes.contourf(*centres, density.T, levels=[*levels, density.max()], colors=[SKY, BLUE], alpha=0.55)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def _labels(axes: Axes, x: str | None, y: str | None) -> None:
    quiet(axes)
    axes.grid(False)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelbottom=x is not None, labelleft=y is not None, labelsize=SMALL)
    if x is not None:
        axes.set_xlabel(x, size=LABEL, color=INK, labelpad=2)
    if y is not None:
        axes.set_ylabel(y, size=LABEL, color=INK, labelpad=2)


def draw_tail(weights: Column, limit: float) -> Figure:
    """How many of the weights (n,), which sum to one, are larger than each, against the mean weight; both logarithmic.

    Beside it the tail of k = `limit`, from the fifth of the weights that is largest on.
    """
    ratio = np.sort(weights[weights > 0])[::-1] * len(weights)
    larger = np.arange(1, len(ratio) + 1) / len(weights)
    figure = Figure((3.6, 2.2), dpi=DPI)
    axes = figure.add_axes((0.15, 0.19, 0.83, 0.78))
    axes.plot(ratio, larger, color=BLUE, linewidth=1.4)
    axes.plot(ratio[:5], larger[:5], linestyle="none", marker="o", markersize=2.5, color=BLUE)
    start = max(0, len(ratio) // 5 - 1)
    reach = np.array([larger[start], math.sqrt(larger[0] * larger[start]), larger[0]])
    heavy = ratio[start] * (reach / larger[start]) ** -limit
    axes.plot(heavy, reach, color=GREY, linewidth=0.9, linestyle="--")
    axes.text(heavy[1] * 1.15, reach[1], f"k = {limit:.2f}", size=LABEL, color=INK, ha="left", va="bottom")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left=ratio[len(ratio) // 2])
    axes.set_ylim(top=1)
    axes.set_xlabel("weight, in units of the mean weight", size=LABEL, color=INK)
    axes.set_ylabel("share of larger weights", size=LABEL, color=INK)
    quiet(axes)
    axes.tick_params(labelsize=LABEL)
    return figure


def _levels(density: Column) -> list[float]:
    """The heights above which so much of the density lies."""
    heights = np.sort(density.ravel())[::-1]
    inside = heights.cumsum() / heights.sum()
    return [float(heights[min(int(np.searchsorted(inside, share)), len(heights) - 1)]) for share in _INSIDE]


def _smooth(counts: Column, width: float = 0.8) -> Column:
    """By a Gaussian along the last axis, in cells; the ends are mirrored."""
    reach = int(4 * width) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(counts.astype(float), [(0, 0)] * (counts.ndim - 1) + [(reach, reach)], mode="symmetric")
    smoothed: Column = np.apply_along_axis(np.convolve, -1, padded, kernel, "valid")
    return smoothed
