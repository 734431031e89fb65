"""The ablations' tables, from results that are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flowvi.errors import RunError
from flowvi.reports.ablations import sections
from flowvi.reports.columns import write_page

Make = Callable[..., Path]
FIGURES = {
    "source/amortised/K = 10": (95.0, 90.0),
    "source/static/K = 10": (97.5, 91.0),
    "source/amortised/K = 40": (93.0, 89.0),
}


def publish(folder: Path) -> list[Path]:
    return write_page(sections(folder), folder / "ablations")


def lines(text: str, start: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.startswith(start)]


def test_arms_and_their_differences(make_results: Make) -> None:
    *_, markdown, plain = publish(make_results("ablations", FIGURES))
    text = plain.read_text()
    assert "Must the inference network give the flow's parameters?" in text
    assert lines(text, "static") == ["static K = 10 97.50 ± 0.24 6.50 ± 0.02 91.00 ± 0.23 3, s.d. 0.10 1,000"]
    assert lines(text, "parameters  static − amortised") == [
        "parameters static − amortised K = 10 2.50 [2.50, 2.50] 1.00 [1.00, 1.00]"
    ]
    assert lines(text, "K  ") == [
        "K K = 40 − K = 10 amortised −2.00 [−2.00, −2.00] −1.00 [−1.00, −1.00]",
    ]
    assert (
        "| parameters | static − amortised | K = 10 | 2.50 [2.50, 2.50] | 1.00 [1.00, 1.00] |" in markdown.read_text()
    )
    assert text.count("Not measured.") == 3


def test_with_few_seeds_a_difference_has_the_images_error_alone(make_results: Make) -> None:
    *_, plain = publish(make_results("ablations", FIGURES, seeds=2))
    assert lines(plain.read_text(), "parameters  static − amortised") == [
        "parameters static − amortised K = 10 2.50 ± 0.00 1.00 ± 0.00"
    ]


def test_nothing_yet(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there are no results in .*: run `flowvi reproduce ablations` first"):
        sections(tmp_path)
