"""Draw Figure 3 from its files: the targets, the flows' densities, and KL against K."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median, median_low
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
from torch import Tensor

from flowvi.errors import RunError
from flowvi.experiments.figure3.cells import FLOWS
from flowvi.experiments.figure3.energies import ENERGIES
from flowvi.experiments.figure3.quadrature import midpoints
from flowvi.experiments.figure3.store import Record, Store
from flowvi.reports.columns import Picture, Section, Table
from flowvi.reports.style import BLUE, DPI, GREEN, GREY, INK, LABEL, ORANGE, PINK, RULE, SMALL, TITLE, VERMILION, quiet
from flowvi.reports.tables import ABSENT, number

__all__ = ["divergences", "findings", "sections"]

Image = npt.NDArray[np.float64]

SHOWN = 4.5  # half the width of a panel, in units of z
SIDES = 225  # points along it
PANEL, GAP, CURVES, LEFT, TOP, BOTTOM = 0.77, 0.04, 2.0, 0.32, 0.58, 0.72  # inches
DENSITY = LinearSegmentedColormap.from_list("density", ["#ffffff", "#cfe1f2", "#6aaed6", "#2070b4", "#08306b"])
STYLES = {
    "planar": (BLUE, "o"),
    "radial": (GREEN, "^"),
    "sylvester": (PINK, "v"),
    "nice-orthogonal": (VERMILION, "s"),
    "nice-permutation": (ORANGE, "D"),
}
_NOTE = (
    "KL(q‖p̃) in nats, by quadrature, the median over restarts; p̃ is the energy's density, confined to the box by soft "
    "walls. Modes: restarts that give each half-plane of U1 and U2, or each branch of U3 and U4 where they part, its "
    "mass to within 30 %."
)


class _Column(NamedTuple):
    """One column of densities: a flow and its length."""

    flow: str
    length: int


def sections(folder: Path) -> list[Section]:
    """What a folder's `figure3.jsonl` and `figure3.npz` hold, drawn, and as a table.

    A density is exact at each of its points, by the flow's inverse; each flow is its restarts' of median KL.

    Raises:
        RunError: there are no results, or they cannot be read.
    """
    store = Store(folder)
    if not store.records:
        raise RunError(f"there are no results in {store.lines}: run `flowvi reproduce figure3` first")
    words = "Four target densities, the densities of flows fitted to them, and KL against length"
    picture = Picture("figure3", words, _figure(store))
    return [Section("Figure 3", [picture, divergences(store.records), _NOTE], findings(store.records))]


def findings(records: Sequence[Record]) -> tuple[str, ...]:
    """A line on each flow that there are results of."""
    there = {record["flow"] for record in records}
    return tuple(_finding(flow, records) for flow in STYLES if flow in there)


def _finding(flow: str, records: Sequence[Record]) -> str:
    """Of a flow at its longest: the median KL of each energy, and in how many of its restarts all modes are found."""
    own = [record for record in records if record["flow"] == flow]
    longest = max(record["length"] for record in own)
    own = [record for record in own if record["length"] == longest]
    energies = [name for name in ENERGIES if any(record["energy"] == name for record in own)]
    kls = [number(median(r["kl"] for r in own if r["energy"] == name), 3) for name in energies]
    found = sum(bool(record["modes_found"]) for record in own)
    return (
        f"Figure 3, {FLOWS[flow].title}, K = {longest}: median KL {' / '.join(kls)} nats on {' / '.join(energies)}; "
        f"{found} of {len(own)} restarts find all modes."
    )


def divergences(records: Sequence[Record]) -> Table:
    """The median KL over restarts of each flow, and how many of them found all modes of U1 and of U4."""
    rows = []
    for flow in STYLES:
        for length in sorted({record["length"] for record in records if record["flow"] == flow}):
            own = [record for record in records if (record["flow"], record["length"]) == (flow, length)]
            cells = {name: [record for record in own if record["energy"] == name] for name in ENERGIES}
            medians = [number(median(r["kl"] for r in some), 3) if some else ABSENT for some in cells.values()]
            found = [_found(cells[name]) for name in ENERGIES]
            rows.append((f"{FLOWS[flow].title}, K = {length}", *medians, *found))
    return Table(("flow", *(f"KL, {name}" for name in ENERGIES), *(f"modes, {name}" for name in ENERGIES)), rows)


def _found(records: Sequence[Record]) -> str:
    return f"{sum(bool(r['modes_found']) for r in records)}/{len(records)}" if records else ABSENT


def _figure(store: Store) -> Figure:
    """A row for each energy: target, densities, KL against K."""
    rows = [name for name in ENERGIES if any(record["energy"] == name for record in store.records)]
    columns = _columns(store.records)
    width = LEFT + (1 + len(columns)) * PANEL + GAP + CURVES
    height = TOP + len(rows) * PANEL + BOTTOM
    page = _Page(width, height)
    for flow in dict.fromkeys(column.flow for column in columns):
        page.head(flow, [place for place, column in enumerate(columns, 1) if column.flow == flow])
    for row, name in enumerate(rows):
        own = [record for record in store.records if record["energy"] == name]
        page.write(f"$U_{name[1:]}$", LEFT / 2, TOP + (row + 0.5) * PANEL, TITLE)
        target = _target(name, own[0]["ln_z"])
        page.show(target, target.max(), row, 0, "target")
        for place, column in enumerate(columns, 1):
            density = _density(store, name, column)
            if density is not None:
                page.show(density, target.max(), row, place, f"K = {column.length}")
        axes = page.axes_of_curves(row)
        _curves(axes, own)
        _scales(axes, store.records, last=row == len(rows) - 1)
    page.write("KL(q‖p), nats", width - CURVES / 2 + 0.16, TOP - 0.31, LABEL)
    page.write("median and range over restarts", width - CURVES / 2 + 0.16, TOP - 0.15, SMALL, colour=GREY)
    page.write(
        _settings(store.records), LEFT + PANEL * (1 + len(columns)) / 2, height - BOTTOM + 0.2, SMALL, colour=GREY
    )
    _legend(page, store.records)
    return page.figure


def _settings(records: Sequence[Record]) -> str:
    """How the flows were trained, in a line."""
    updates, batch = (_either(records, key) for key in ("updates", "batch"))
    restarts = _either(records, "restarts")
    several = "one restart" if restarts == "1" else f"{restarts} restarts, drawn is that of median KL"
    return f"{updates} updates of {batch} points each; {several}"


def _either(records: Sequence[Record], key: str) -> str:
    return " or ".join(f"{value:,}" for value in sorted({record[key] for record in records}))


def _columns(records: Sequence[Record]) -> list[_Column]:
    """Every K of planar and of NICE with orthogonal mixing, as in the paper; the longest of others."""
    found = {flow: sorted({record["length"] for record in records if record["flow"] == flow}) for flow in STYLES}
    every = ("planar", "nice-orthogonal")
    return [_Column(flow, k) for flow, lengths in found.items() for k in (lengths if flow in every else lengths[-1:])]


def _target(name: str, ln_z: float) -> Image:
    return _image(ENERGIES[name].log_density(midpoints(SIDES, SHOWN)) - ln_z)


@torch.no_grad()
def _density(store: Store, energy: str, column: _Column) -> Image | None:
    flow = store.flow(energy, *column)
    return None if flow is None else _image(flow().log_prob(midpoints(SIDES, SHOWN)))


def _image(log_density: Tensor) -> Image:
    """Densities at the midpoints as rows of a picture, z2 upwards."""
    density: Image = log_density.exp().view(SIDES, SIDES).T.numpy()
    return density


class _Page:
    """A figure measured in inches from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure((width, height), dpi=DPI, facecolor="white")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        low = self.height - top - height
        box = left / self.width, low / self.height, width / self.width, height / self.height
        made: Axes = self.figure.add_axes(box)
        return made

    def axes_of_curves(self, row: int) -> Axes:
        return self.axes(self.width - CURVES + 0.42, TOP + row * PANEL + 0.06, CURVES - 0.5, PANEL - 0.14)

    def show(self, density: Image, largest: float, row: int, column: int, title: str) -> None:
        """One panel; `largest`, of the target, is the darkest colour of its row."""
        side = PANEL - GAP
        axes = self.axes(LEFT + column * PANEL + GAP / 2 + (column > 0) * GAP, TOP + row * PANEL + GAP / 2, side, side)
        box = (-SHOWN, SHOWN, -SHOWN, SHOWN)
        axes.imshow(density, cmap=DENSITY, vmin=0, vmax=largest, origin="lower", extent=box, interpolation="bilinear")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=RULE, linewidth=0.6)
        if row == 0:
            axes.set_title(title, size=LABEL, color=INK, pad=2.5)

    def head(self, flow: str, columns: Sequence[int]) -> None:
        """A flow's name over its columns."""
        first, last = LEFT + columns[0] * PANEL + 2 * GAP, LEFT + (columns[-1] + 1) * PANEL
        y = 1 - (TOP - 0.24) / self.height
        rule = Line2D([first / self.width, last / self.width], [y, y], color=STYLES[flow][0], linewidth=1.2)
        self.figure.add_artist(rule)
        title = FLOWS[flow].title if len(columns) > 1 else FLOWS[flow].title.replace(", ", ",\n")
        self.write(title, (first + last) / 2, TOP - 0.28, LABEL, va="bottom")

    def write(self, text: str, left: float, top: float, size: float, *, va: str = "center", colour: str = INK) -> None:
        """Text centred on `left`, and on `top` if `va` says no other."""
        x, y = left / self.width, 1 - top / self.height
        self.figure.text(x, y, text, ha="center", va=va, size=size, color=colour, linespacing=1.05)


def _curves(axes: Axes, records: Sequence[Record]) -> None:
    """KL against K: the median's line, and a bar from the best restart to the worst."""
    lengths = sorted({record["length"] for record in records})
    flows = [flow for flow in STYLES if any(record["flow"] == flow for record in records)]
    for index, flow in enumerate(flows):
        colour, marker = STYLES[flow]
        found = {k: [r["kl"] for r in records if (r["flow"], r["length"]) == (flow, k)] for k in lengths}
        found = {k: kls for k, kls in found.items() if kls}
        # beside each other, so that bars do not hide each other
        places = [k * 1.07 ** (index - (len(flows) - 1) / 2) for k in found]
        axes.plot(places, list(map(median_low, found.values())), color=colour, marker=marker, markersize=3, linewidth=1)
        axes.vlines(places, list(map(min, found.values())), list(map(max, found.values())), color=colour, linewidth=0.8)


def _scales(axes: Axes, records: Sequence[Record], last: bool) -> None:
    """The same scales for all energies."""
    lengths = sorted({record["length"] for record in records})
    low, high = (extreme(record["kl"] for record in records) for extreme in (min, max))
    axes.set(xscale="log", yscale="log", xlim=(lengths[0] / 1.5, lengths[-1] * 1.5), ylim=(low / 1.4, high * 1.4))
    axes.yaxis.set_major_locator(LogLocator(numticks=10))
    axes.set_xticks(lengths, [str(k) for k in lengths] if last else [""] * len(lengths), minor=False)
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: "")
    quiet(axes)
    if last:
        axes.set_xlabel("layers K", size=SMALL, color=INK, labelpad=1)


def _legend(page: _Page, records: Sequence[Record]) -> None:
    """The lines' flows, below the curves."""
    flows = [flow for flow in STYLES if any(record["flow"] == flow for record in records)]
    handles = [
        Line2D(
            [], [], color=STYLES[flow][0], marker=STYLES[flow][1], markersize=3, linewidth=1, label=FLOWS[flow].title
        )
        for flow in flows
    ]
    page.figure.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=((page.width - 0.05) / page.width, -0.01),
        ncols=2,
        fontsize=SMALL,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.2,
        labelspacing=0.3,
    )
