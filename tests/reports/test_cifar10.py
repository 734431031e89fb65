"""Table 3: the paper's figures beside ours, and what is said of the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowvi.errors import RunError
from flowvi.reports.cifar10 import sections, table

Record = dict[str, Any]


@pytest.fixture
def ours(record: Record) -> list[Record]:
    """K = 0 and K = 2, two seeds each."""
    base = {**record, "data": "cifar10", "binarisation": "none", "images": 761, "subset": "some of all images"}
    made = []
    for seed in (0, 1):
        made.append({**base, "flow": "gaussian", "length": 0, "config_hash": "a", "seed": seed, "nll": -290.0 - seed})
        gain = {"gain": 10.0 + 2 * seed, "gain_se": 0.5}
        made.append({**base, "length": 2, "config_hash": "b", "seed": seed, "nll": -300.0 - 3 * seed, **gain})
    return made


def test_the_table(ours: list[Record]) -> None:
    header, _, none, two = table(list(reversed(ours))).markdown().splitlines()
    assert header.startswith("| posterior | paper: −ln p(x) | paper: gain | −ln p(x) | gain |")
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (none, two)]
    assert cells[0][1:5] == ["−293.7", "–", "−290.5 ± 0.2", "–"]
    assert cells[1][:5] == ["planar flow, K = 2", "−308.6", "14.9", "−301.5 ± 0.2", "11.0 ± 0.5"]
    assert cells[1][7] == "2, s.d. 2.1"


def notes(records: list[Record], folder: Path) -> str:
    (folder / "cifar10.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (section,) = sections(folder)
    return " ".join(part for part in section.parts if isinstance(part, str))


def test_the_notes_say_that_it_is_a_subset(ours: list[Record], tmp_path: Path) -> None:
    text = notes(ours, tmp_path)
    assert "**Ours saw a subset of CIFAR-10: some of all images.**" in text and "761 test patches" in text
    assert "subset" not in notes([{**record, "subset": None} for record in ours], tmp_path)


def test_a_length_that_the_paper_does_not_have(ours: list[Record]) -> None:
    row = table([{**ours[1], "length": 3}]).markdown().splitlines()[2]
    assert row.startswith("| planar flow, K = 3 | – | – | −300.0")


def test_nothing_yet(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run `flowvi reproduce cifar10` first"):
        sections(tmp_path)
