"""The figure, from the parts' files alone."""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe & Ito's colours: told apart by everybody. A program keeps its colour in every panel.
COLOURS = {
    "flowvi": "#0072B2",
    "flowvi bf16": "#56B4E9",
    "reference": "#7F7F7F",
    "compiled": "#000000",
    "pyro": "#D55E00",
    "normflows": "#CC79A7",
    "flowjax": "#009E73",
    "earlier": "#E69F00",
    "floor": "#707070",
    "floor bf16": "#A8A8A8",
    "products": "#707070",
    "products bf16": "#A8A8A8",
}
NAMES = {
    "reference": "own reference",
    "compiled": "torch.compile",
    "products": "decoder's products",
    "products bf16": "the same, bf16",
}
STYLE = {
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "benchmarks",
    "savefig.dpi": 200,
}
MAIN = {"D": 40, "B": 100}
Records = Mapping[str, Mapping[str, Any]]


def draw(records: Records) -> Figure:
    """Six panels; one whose part was not measured says so."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 5.6))
        # room at the right of each panel for the names of its lines
        figure.subplots_adjust(left=0.055, right=0.895, bottom=0.085, top=0.945, wspace=0.68, hspace=0.36)
        axes = figure.subplots(2, 3)
        _chain(axes[0, 0], records.get("chain"), "", "a  Planar chain for each point")
        _chain(axes[0, 1], records.get("chain"), " static", "b  One planar chain for all points")
        _step(axes[0, 2], records.get("step"))
        _likelihood(axes[1, 0], records.get("likelihood"))
        _growth(axes[1, 1], records.get("growth"), "times", "e  Time, relative to the first point")
        _growth(axes[1, 2], records.get("growth"), "memory", "f  Peak memory, MiB")
    return figure


def _chain(axes: Axes, record: Mapping[str, Any] | None, form: str, title: str) -> None:
    axes.set_title(title)
    cells = [each for each in (record or {}).get("cells", ()) if _main(each["sizes"])]
    if not cells:
        return _absent(axes)
    names = [name for name in COLOURS if any(name + form in each["times"] for each in cells)]
    lines = {name: [(each["sizes"]["K"], each["times"].get(name + form)) for each in cells] for name in names}
    _lines(axes, lines)
    axes.set_xscale("log")
    _ticks(axes, [each["sizes"]["K"] for each in cells])
    sizes = cells[0]["sizes"]
    axes.set_xlabel(f"layers K   (D = {sizes['D']}, B = {sizes['B']})")
    axes.set_ylabel("forward + backward, ms")


def _step(axes: Axes, record: Mapping[str, Any] | None) -> None:
    axes.set_title("c  Training step, batch 100")
    cells = (record or {}).get("cells", ())
    if not cells:
        return _absent(axes)
    places = {each["sizes"]["K"]: place for place, each in enumerate(cells)}
    names = ["flowvi", "flowvi bf16", "earlier", "pyro", "floor", "floor bf16"]
    _lines(axes, {name: [(places[e["sizes"]["K"]], e["times"].get(name)) for e in cells] for name in names})
    axes.set_xticks(list(places.values()), [str(k) for k in places])
    axes.set_xlabel("layers K")
    axes.set_ylabel("ms")


def _likelihood(axes: Axes, record: Mapping[str, Any] | None) -> None:
    axes.set_title("d  −ln p(x) of a test image, S = 200")
    cells = [each for each in (record or {}).get("cells", ()) if each["sizes"]["S"] == 200]
    if not cells:
        return _absent(axes)
    names = [name for name in COLOURS if any(name in each["times"] for each in cells)]
    for place, name in enumerate(names):
        for each, marker in zip(cells, "os", strict=False):
            if spread := each["times"].get(name):
                _point(axes, spread, -place, COLOURS[name], marker, _hollow(each, cells))
        right = max(each["times"][name]["upper"] for each in cells if name in each["times"])
        where = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(NAMES.get(name, name), (right, -place), color=COLOURS[name], annotation_clip=False, **where)
    for each, marker in zip(cells, "os", strict=False):
        label, style = f"K = {each['sizes']['K']}", _hollow(each, cells)
        axes.plot([], [], marker, linestyle="none", color="#404040", label=label, **style)
    axes.set_xscale("log")
    _plain(axes)
    axes.set_yticks([])
    axes.set_xlabel("ms")
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.legend(frameon=False, handletextpad=0.2, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _hollow(each: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The first of two lengths is drawn hollow."""
    return {"markerfacecolor": "white"} if each is cells[0] and len(cells) > 1 else {}


def _point(
    axes: Axes, spread: Mapping[str, float], y: float, colour: str, marker: str, style: Mapping[str, str]
) -> None:
    error = [[spread["median"] - spread["lower"]], [spread["upper"] - spread["median"]]]
    axes.errorbar([spread["median"]], [y], xerr=error, fmt=marker, color=colour, elinewidth=0.8, **style)


def _growth(axes: Axes, record: Mapping[str, Any] | None, what: str, title: str) -> None:
    """Along each axis; a name ends in the exponent between the last two points."""
    axes.set_title(title)
    cells = (record or {}).get("cells", ())
    if record is None or not cells:
        return _absent(axes)
    ends = []
    for each, colour in zip(cells, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        found = [each["times"][str(v)]["median"] if what == "times" else each["memory"][str(v)] for v in each["values"]]
        points = [(v / each["values"][0], f) for v, f in zip(each["values"], found, strict=True) if f]
        if not points:
            continue
        x, y = np.array(points).T
        y = y / y[0] if what == "times" else y
        axes.plot(x, y, "o-", color=colour)
        slopes = record["exponents"][each["axis"]]["time" if what == "times" else "memory"]
        power = f": {slopes['last']:.2f}" if slopes else ""
        span = f"{each['values'][0]}–{each['values'][-1]}"
        ends.append((x[-1], y[-1], f"{each['axis']} {span}{power}", colour))
    axes.set_xscale("log")
    axes.set_yscale("log")
    _labels(axes, ends)
    _plain(axes)
    axes.set_xlabel("K, D, batch or S, relative to its first point")


def _lines(axes: Axes, lines: Mapping[str, Sequence[tuple[float, Mapping[str, float] | None]]]) -> None:
    """A line for each contender, its quartiles as a band, its name at its end."""
    axes.set_yscale("log")
    ends = []
    for name, points in lines.items():
        there = [(x, spread) for x, spread in points if spread]
        if not there:
            continue
        x = [each for each, _ in there]
        middle, lower, upper = ([s[key] for _, s in there] for key in ("median", "lower", "upper"))
        dashed = "--" if name.startswith("floor") else "-"
        axes.plot(x, middle, f"o{dashed}", color=COLOURS[name], zorder=3 if name == "flowvi" else 2)
        axes.fill_between(x, lower, upper, color=COLOURS[name], alpha=0.2, linewidth=0)
        ends.append((x[-1], middle[-1], NAMES.get(name, name), COLOURS[name]))
    _labels(axes, ends)
    _plain(axes)


def _labels(axes: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float = 0.075) -> None:
    """Names right of the lines' ends, moved apart where they would meet."""
    low, high = (np.log(limit) for limit in axes.get_ylim())
    heights: list[float] = []
    ends = sorted(ends, key=lambda end: end[1])
    for _, y, _, _ in ends:
        heights.append(max((np.log(y) - low) / (high - low), heights[-1] + gap if heights else 0.0))
    for place in reversed(range(len(ends))):  # and down again where the highest left the panel
        heights[place] = min(heights[place], heights[place + 1] - gap if place + 1 < len(ends) else 1.0)
    for (x, y, name, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(1.04, height),
            textcoords="axes fraction",
            va="center",
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2},
        )


def _ticks(axes: Axes, values: Sequence[int]) -> None:
    """A tick at each value; a name where there is room, which is at every fourfold of the one before."""
    named: list[int] = []
    for value in values:
        if not named or value >= 4 * named[-1]:
            named.append(value)
    axes.set_xticks(values, [str(value) if value in named else "" for value in values])
    axes.set_xticks([], minor=True)


def _plain(axes: Axes) -> None:
    """Numbers as they are, at powers of ten and, where these are few, at twofolds and fivefolds of them."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() != "log":
            continue
        low, high = sorted(axis.get_view_interval())
        few = high / low < 100
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _main(sizes: Mapping[str, int]) -> bool:
    return all(sizes[name] == value for name, value in MAIN.items())


def _absent(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color="#808080")
    axes.set_axis_off()
