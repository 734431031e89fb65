"""Figure 3 drawn from its files: the same bytes again, of what there is, and a line where there is nothing."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from flowvi.errors import RunError
from flowvi.experiments.figure3.cells import FLOWS, Cell
from flowvi.experiments.figure3.reproduce import measure
from flowvi.experiments.figure3.scheme import Scheme
from flowvi.experiments.figure3.store import Store
from flowvi.reports.columns import write_page
from flowvi.reports.figure3 import STYLES, sections

TINY = Scheme(updates=2, batch=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figure3")
    store = Store(folder)
    for energy, flow, length in (("U1", "planar", 2), ("U1", "planar", 8), ("U1", "radial", 2), ("U3", "planar", 2)):
        done = measure(Cell(energy, flow, length, 2, TINY))
        store.add(done.cell, [{**record, "budget": "tiny"} for record in done.records], done.flow)
    return folder


def draw(folder: Path) -> list[Path]:
    return write_page(sections(folder), folder / "figure3")


def test_svg_and_png_are_drawn_and_are_the_same_again(folder: Path) -> None:
    files = draw(folder)
    assert [path.name for path in files] == ["figure3.svg", "figure3.png", "figure3.md", "figure3.txt"]
    first = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in draw(folder)] == first
    images = ElementTree.parse(files[0]).getroot().findall(".//{http://www.w3.org/2000/svg}image")
    assert len(images) == 4 + 2  # U1: target, three flows; U3 has one only
    picture = imread(files[1])[..., :3]
    for edge in (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]):
        assert (edge == 1).all()


def test_the_table(folder: Path) -> None:
    rows = [line.split("|")[1:-1] for line in draw(folder)[2].read_text().splitlines() if line.startswith("| planar")]
    first, second = ([cell.strip() for cell in row] for row in rows)
    assert (first[0], second[0]) == ("planar, K = 2", "planar, K = 8")
    kls = sorted(r["kl"] for r in Store(folder).records if (r["energy"], r["flow"], r["length"]) == ("U1", "planar", 2))
    assert first[1] == f"{sum(kls) / 2:.3f}" and first[2] == "–" and first[3] != "–"
    assert first[5] in ("0/2", "1/2", "2/2") and first[6] == "–"


def test_every_flow_has_a_colour() -> None:
    assert set(STYLES) == set(FLOWS)


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there are no results in .*: run `flowvi reproduce figure3` first"):
        sections(tmp_path)
