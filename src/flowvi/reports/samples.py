"""A figure of what a trained model makes: test images, their reconstructions, and samples."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from flowvi.data import Dataset
from flowvi.errors import ConfigError, DataError
from flowvi.experiments.config import Config
from flowvi.experiments.pictures import Pictures, pictures_of
from flowvi.experiments.run import as_run
from flowvi.reports.pictures import save
from flowvi.reports.style import DPI, GREY, INK

__all__ = ["draw"]

SUFFIXES = (".png", ".svg")
COLUMNS = 12
SAMPLE_ROWS = 3

# Lengths in pixels of the picture, at twice a README's resolution.
TILE = 112
LABELS = 226
MARGIN, GAP, BLOCK_GAP, CAPTION, LINE = 24, 8, 32, 20, 26

PAPER = "#f1f1f1"
CHARACTER = 11  # width of one in the caption, about


class _Block(NamedTuple):
    """Rows of tiles beside one label, and the space above them."""

    label: str
    detail: str
    images: npt.NDArray[np.float64]  # (n, height, width, channels), in [0, 1]; channels: 1 or 3
    above: int


def draw(run_folder: str | os.PathLike[str], out: str | os.PathLike[str], seed: int = 0) -> Path:
    """Draw test images, their reconstructions, and samples of a trained model.

    The images are a random choice of the test images (binarised, or patches in colour). A reconstruction is the mean of
    p(x|z) for one z ~ q(z|x), a sample the mean of p(x|z) for z ~ p(z). The same run and seed give the same picture.

    Args:
        run_folder: a finished run.
        out: the file to write, `.png` or `.svg`.
        seed: of the choice of images, and of z; the run's own seed stands in the caption.

    Returns:
        `out`.

    Raises:
        ConfigError: another suffix.
        DataError: data that are no images, or cannot be read.
        RunError: there is no such run, or `out` cannot be written.
        CheckpointError: the run's weights are missing or damaged.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"cannot draw {out}: its name has to end in {' or '.join(SUFFIXES)}")
    run = as_run(run_folder)
    made, dataset = pictures_of(run, seed, images=COLUMNS, samples=SAMPLE_ROWS * COLUMNS)
    save(_picture(_blocks(made, dataset), _caption(run.config, dataset)), out)
    return out


def _blocks(made: Pictures, dataset: Dataset) -> list[_Block]:
    """What is drawn, as blocks of tiles."""
    shape = _image_shape(dataset)

    def tiles(pixels: Tensor) -> npt.NDArray[np.float64]:
        planes = pixels.double().reshape(-1, dataset.channels, *shape)
        array: npt.NDArray[np.float64] = planes.movedim(1, -1).numpy()
        return array

    detail = "dequantised" if dataset.binarisation == "none" else "binarised"
    return [
        _Block("test images", detail, tiles(made.images), above=0),
        _Block("reconstructions", "z ∼ q(z|x)", tiles(made.reconstructions), above=GAP),
        _Block("samples", "z ∼ p(z)", tiles(made.samples), above=BLOCK_GAP),
    ]


def _image_shape(dataset: Dataset) -> tuple[int, int]:
    """The data's own shape, or a square of as many pixels."""
    side = math.isqrt(dataset.features)
    if dataset.image_shape is not None:
        return dataset.image_shape
    if side * side != dataset.features:
        raise DataError(
            f"cannot draw {dataset.name}: {dataset.features} features are not the pixels of a square, "
            "so the shape of an image is unknown"
        )
    return side, side


def _caption(config: Config, dataset: Dataset) -> str:
    flow, training = config.flow, config.training
    kind = f"{flow.kind} flow" if flow.length else "Gaussian"
    pixels = config.data.pixels if dataset.binarisation == "none" else f"{dataset.binarisation} binarisation"
    parts = [
        config.preset,
        f"{kind}, K = {flow.length}",
        f"{training.updates:,} updates, {training.protocol} protocol",
        f"{dataset.name}, {pixels}",
        f"seed {config.seed}",
    ]
    return "  ·  ".join(parts)


def _picture(blocks: Sequence[_Block], caption: str) -> Figure:
    """The blocks below each other, every pixel of an image a whole number of pixels of the picture."""
    scale = max(1, round(TILE / max(blocks[0].images.shape[1:3])))
    sheets = [_sheet(block.images, scale) for block in blocks]
    wide = sheets[0].shape[1]
    lines = textwrap.wrap(caption, wide // CHARACTER)
    high = sum(block.above + len(sheet) for block, sheet in zip(blocks, sheets, strict=True))
    canvas = _Canvas(LABELS + wide + MARGIN, MARGIN + high + CAPTION + LINE * len(lines) + MARGIN)
    top = MARGIN
    for block, sheet in zip(blocks, sheets, strict=True):
        top += block.above
        canvas.show(sheet, LABELS, top)
        middle = top + len(sheet) // 2
        canvas.write(block.label, MARGIN, middle - 14, 8, INK)
        canvas.write(block.detail, MARGIN, middle + 14, 7, GREY)
        top += len(sheet)
    for number, line in enumerate(lines):
        canvas.write(line, LABELS, top + CAPTION + LINE * number + LINE // 2, 7, GREY)
    return canvas.figure


class _Canvas:
    """A figure measured in pixels from its upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure((width / DPI, height / DPI), dpi=DPI, facecolor="white")
        self.colours = LinearSegmentedColormap.from_list("ink", [PAPER, INK]).with_extremes(bad="white")

    def show(self, sheet: npt.NDArray[np.float64], left: int, top: int) -> None:
        """Grey levels or colours in [0, 1], one a pixel, (height, width, channels); white where NaN."""
        high, wide, channels = sheet.shape
        low = self.height - top - high
        box = (left / self.width, low / self.height, wide / self.width, high / self.height)
        axes = self.figure.add_axes(box)
        shown = sheet[..., 0] if channels == 1 else np.nan_to_num(sheet, nan=1.0)
        axes.imshow(shown, cmap=self.colours, vmin=0, vmax=1, interpolation="none", aspect="auto")
        axes.set_axis_off()

    def write(self, text: str, left: int, middle: int, size: float, colour: str) -> None:
        """One line of text, centred on `middle` in height."""
        x, y = left / self.width, 1 - middle / self.height
        self.figure.text(x, y, text, va="center_baseline", size=size, color=colour, parse_math=False)


def _sheet(images: npt.NDArray[np.float64], scale: int) -> npt.NDArray[np.float64]:
    """The images in rows of `COLUMNS`, each of their pixels `scale` wide; elsewhere NaN."""
    large = images.repeat(scale, axis=1).repeat(scale, axis=2)
    missing = -len(images) % COLUMNS
    tiles = np.pad(large, ((0, missing), (0, GAP), (0, GAP), (0, 0)), constant_values=np.nan)
    count, high, wide, channels = tiles.shape
    rows = tiles.reshape(count // COLUMNS, COLUMNS, high, wide, channels).swapaxes(1, 2)
    sheet: npt.NDArray[np.float64] = rows.reshape(count // COLUMNS * high, COLUMNS * wide, channels)
    return sheet[:-GAP, :-GAP]
