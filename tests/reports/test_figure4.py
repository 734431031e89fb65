"""Figure 4 drawn, and its tables written, from results that are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from flowvi.errors import RunError
from flowvi.experiments.arms.store import filled
from flowvi.reports.columns import write_page
from flowvi.reports.figure4 import sections
from flowvi.reports.published import REPRODUCTION
from flowvi.reports.table2 import comparable
from flowvi.reports.table2 import sections as tables

FIGURES = {
    "gaussian-0": (98.4, 92.6),
    "planar-10": (95.3, 90.2),
    "planar-20": (94.1, 89.4),
    "planar-40": (93.2, 88.8),
    "planar-80": (92.4, 88.4),
    "nice-10": (96.0, 91.0),
    "nice-20": (95.2, 90.3),
    "nice-40": (94.6, 89.9),
    "nice-80": (94.3, 89.7),
    "nice_time-10": (96.6, 91.5),
    "radial-10": (97.4, 91.9),
    "sylvester-10": (92.1, 88.1),
    "iaf-4": (94.4, 89.8),
}

Make = Callable[..., Path]


def draw(folder: Path) -> list[Path]:
    return write_page(sections(folder), folder / "figure4")


def write(folder: Path) -> list[Path]:
    return write_page(tables(folder), folder / "table2")


def test_the_figure_is_drawn_and_is_the_same_again(make_results: Make) -> None:
    folder = make_results("figure4", FIGURES)
    files = draw(folder)
    assert [path.name for path in files] == ["figure4.svg", "figure4.png", "figure4.md", "figure4.txt"]
    first = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in draw(folder)] == first
    ElementTree.parse(files[0])
    picture = imread(files[1])[..., :3]
    for edge in (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]):
        assert (edge == 1).all()  # nothing is cut off


@pytest.mark.parametrize("arms", [["gaussian-0"], ["planar-10", "iaf-4"]])
def test_what_there_is_of_it_is_drawn(make_results: Make, arms: list[str]) -> None:
    folder = make_results("figure4", {arm: FIGURES[arm] for arm in arms}, seeds=1)
    assert all(path.stat().st_size for path in draw(folder))


def test_thresholded_images_stand_beside_the_earlier_reproduction(make_results: Make) -> None:
    folder = make_results("figure4", FIGURES, seeds=1)
    lines = folder / "figure4.jsonl"
    lines.write_text(lines.read_text().replace('"binarisation": "fixed"', '"binarisation": "threshold"'))
    _, picture, *_, plain = draw(folder)
    assert picture.stat().st_size
    assert comparable(filled(folder, "figure4")) is REPRODUCTION
    assert "not to be compared" not in plain.read_text()


def test_the_table_has_ours_the_paper_s_and_the_earlier_reproduction_s(make_results: Make) -> None:
    markdown, plain = write(make_results("figure4", FIGURES))
    row = next(line for line in plain.read_text().splitlines() if line.startswith("planar, K = 80"))
    for words in ("92.40 ± 0.24", "4.00 ± 0.02", "88.40 ± 0.23", "3, s.d. 0.10"):
        assert words in row
    assert row.endswith("≈ 89.6 / ≈ 4.4 / 85.1     72.11 / 6.05 / 66.06")
    text = markdown.read_text()
    assert "| planar, K = 80 | 92.40 ± 0.24 | 4.00 ± 0.02 | 88.40 ± 0.23 | 3, s.d. 0.10 |" in text
    assert "| DLGM + HVI, 8 leapfrog steps | – | – | – | – | 85.51 | – |" in text
    assert "are not to be compared with ours here" in text
    assert "are not the headline runs" in text  # their configs are made up
    assert max(map(len, plain.read_text().splitlines())) <= 132


def test_costs_stand_beside_the_difference_from_planar_flows(make_results: Make) -> None:
    _, plain = write(make_results("figure4", FIGURES))
    costs = plain.read_text().partition("Cost, at equal updates")[2]
    row = next(line for line in costs.splitlines() if line.startswith("Sylvester, K = 10"))
    words = " ".join(row.split())
    assert words == "Sylvester, K = 10 88.10 ± 0.23 25 min 1,000 −2.10 [−2.10, −2.10] −0.30 [−0.30, −0.30]"


def test_claims_are_computed(make_results: Make) -> None:
    _, plain = write(make_results("figure4", FIGURES))
    claims = [line for line in plain.read_text().partition("Claims")[2].splitlines() if line and line[0] != " "]
    assert [line.partition(":")[0] for line in claims[1:12]] == [
        *["confirmed"] * 6, *["refuted"] * 3, "confirmed", "refuted",
    ]  # fmt: skip


def test_nothing_yet(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there are no results in .*: run `flowvi reproduce figure4` first"):
        sections(tmp_path)
