"""Draw the trainings of a comparison, and what its models make of images; from its files. Imports no torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flowvi.experiments.arms.gallery import Shown
from flowvi.experiments.arms.store import Record
from flowvi.reports.style import BLUE, DPI, GREY, INK, SMALL, TITLE, quiet

__all__ = ["draw_curves", "draw_gallery"]

COLUMNS = 4
WIDTH, PANEL, HEAD, FOOT = 7.2, 1.3, 0.3, 0.55  # inches
ABOVE = 30.0  # nats above the lowest that are drawn: the first updates would flatten all that follows
TILE, GAP, LABEL = 0.36, 0.02, 0.95  # of a gallery
LETTERS = 17  # of a label


def draw_curves(groups: Mapping[str, Sequence[Record]]) -> Figure | None:
    """A panel for each title: F against updates, in training and on validation images, a line for each seed.

    None where no result holds a curve.
    """
    known = {title: [record.get("curve") or {} for record in some] for title, some in groups.items()}
    found = {title: [curve for curve in curves if curve.get("update")] for title, curves in known.items()}
    found = {title: curves for title, curves in found.items() if curves}
    if not found:
        return None
    rows = math.ceil(len(found) / COLUMNS)
    height = HEAD + rows * PANEL + FOOT
    figure = Figure((WIDTH, height), dpi=DPI, facecolor="white")
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(left=0.06, right=0.99, top=1 - HEAD / height, bottom=FOOT / height, wspace=0.08, hspace=0.32)
    for axes, (title, curves) in zip(panels.flat, found.items(), strict=False):
        for curve in curves:
            _line(axes, curve, "free_energy", GREY)
            _line(axes, curve, "validation_free_energy", BLUE)
        axes.set_title(title, size=TITLE, color=INK, loc="left", pad=3)
    for axes in panels.flat[len(found) :]:
        axes.set_axis_off()
    low = min(value for curves in found.values() for curve in curves for value in _values(curve))
    last = max(curve["update"][-1] for curves in found.values() for curve in curves)
    for number, axes in enumerate(panels.flat[: len(found)]):
        _scales(axes, low, last, lowest=number + COLUMNS >= len(found))
    figure.legend(
        handles=[
            Line2D([], [], color=GREY, linewidth=1, label="F in training, nats"),
            Line2D([], [], color=BLUE, linewidth=1, label="F on validation images"),
        ],
        loc="lower center", ncols=2, fontsize=SMALL, frameon=False,
    )  # fmt: skip
    return figure


def _values(curve: Record) -> list[float]:
    keys = ("free_energy", "validation_free_energy")
    return [value for key in keys for value in curve[key] if value is not None]


def _line(axes: Axes, curve: Record, key: str, colour: str) -> None:
    points = [(at, value) for at, value in zip(curve["update"], curve[key], strict=True) if value is not None]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.9, marker="." if len(points) < 3 else "")


def _scales(axes: Axes, low: float, last: int, *, lowest: bool) -> None:
    axes.set_ylim(low - 1, low + ABOVE)
    axes.set_xlim(0, last)
    axes.set_xticks([0, last // 2, last], ["0", f"{last // 2:,}", f"{last:,}"])
    quiet(axes)
    axes.tick_params(labelbottom=lowest)
    if lowest:
        axes.set_xlabel("updates", size=SMALL, color=INK, labelpad=1)


def draw_gallery(shown: Mapping[str, Shown]) -> Figure | None:
    """The test images, and below them a row for each title: their reconstructions, and samples. None of nothing."""
    if not shown:
        return None
    first = next(iter(shown.values()))
    left, right = len(first.images), len(first.samples)
    width = LABEL + (left + right) * TILE + 0.35
    height = HEAD + (1 + len(shown)) * (TILE + GAP) + 0.08
    figure = Figure((width, height), dpi=DPI, facecolor="white")
    colours = LinearSegmentedColormap.from_list("ink", ["#f1f1f1", INK])

    def strip(images: npt.NDArray[np.uint8], row: int, column: float) -> None:
        sheet = np.concatenate([np.pad(_tile(image), 1, constant_values=0) for image in images], axis=1)
        box = (LABEL + column * TILE, height - HEAD - (row + 1) * (TILE + GAP), len(images) * TILE, TILE)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        axes.imshow(sheet, cmap=colours, vmin=0, vmax=255, interpolation="none", aspect="auto")
        axes.set_axis_off()

    def write(text: str, row: float, at: float, colour: str = INK, align: str = "left") -> None:
        y = 1 - (HEAD + (row + 0.5) * (TILE + GAP)) / height
        figure.text(at / width, y, text, size=SMALL + 0.5, color=colour, ha=align, va="center")

    gap = 0.6
    write("test images", 0, 0.06, GREY)
    strip(first.images, 0, 0)
    write("reconstructions: the mean of p(x|z), z ∼ q(z|x)", -0.85, LABEL, GREY)
    write("samples: the mean of p(x|z), z ∼ p(z)", -0.85, LABEL + (left + gap) * TILE, GREY)
    for row, (title, made) in enumerate(shown.items(), 1):
        write(textwrap.fill(title, LETTERS), row, 0.06)
        strip(made.reconstructions, row, 0)
        strip(made.samples, row, left + gap)
    return figure


def _tile(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    side = math.isqrt(len(image))
    return image.reshape(side, side)
