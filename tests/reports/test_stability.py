"""The tables of stability and of learning rates, from results that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowvi.errors import RunError
from flowvi.experiments.arms.store import Store
from flowvi.reports import rates, stability
from flowvi.reports.columns import write_page


def add(folder: Path, name: str, arm: str, seed: int, **figures: Any) -> None:
    about = {"arms": [arm], "budget": "default", "overrides": {}, "config_hash": arm, "seed": seed}
    Store(folder, name).add([({**about, **figures}, None)])


def lines(text: str, start: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.startswith(start)]


def test_blow_ups_are_counted(tmp_path: Path) -> None:
    for seed, rise in enumerate((4.0, 6.0, 250.0)):
        add(tmp_path, "stability", "plain-20", seed, rise=rise, gradient_norm=80.0, validation_free_energy=100.0 + rise)
    add(tmp_path, "stability", "plain-20", 3, failure="update 9: loss not finite", rise=None, gradient_norm=None)
    add(tmp_path, "stability", "modern-20", 0, rise=3.5, gradient_norm=60.0, validation_free_energy=101.0)
    markdown, plain = write_page(stability.sections(tmp_path), tmp_path / "stability")
    text = plain.read_text()
    assert lines(text, "no bound, plain start") == ["no bound, plain start, K = 20 2 of 4 6.0 250.0 80 186.7 350.0"]
    assert lines(text, "modern, K = 20") == ["modern, K = 20 0 of 1 3.5 3.5 60 101.0 101.0"]
    assert "| modern, K = 20 | 0 of 1 |" in markdown.read_text()


def test_a_training_too_short_to_see_is_not_said_to_have_blown_up(tmp_path: Path) -> None:
    add(tmp_path, "stability", "modern-20", 0, rise=None, gradient_norm=None, validation_free_energy=205.0)
    text = write_page(stability.sections(tmp_path), tmp_path / "stability")[1].read_text()
    assert lines(text, "modern, K = 20") == ["modern, K = 20 0 of 1 – – – 205.0 205.0"]


def test_the_best_rate_of_each_family(tmp_path: Path) -> None:
    for rate, score in ((3e-4, 106.0), (1e-3, 102.5), (2e-3, 102.1)):
        add(tmp_path, "rates", f"dlgm.nf10.mnist/{rate:g}", 0, validation_free_energy=score)
    add(tmp_path, "rates", "dlgm.dc.mnist/0.0003", 0, validation_free_energy=107.0)
    add(tmp_path, "rates", "dlgm.dc.mnist/0.002", 0, failure="update 9: loss not finite", validation_free_energy=None)
    text = write_page(rates.sections(tmp_path), tmp_path / "rates")[1].read_text()
    assert lines(text, "planar, K = 10") == ["planar, K = 10 106.00 102.50 102.10 *"]
    assert lines(text, "no flow") == ["no flow 107.00 * – failed"]


@pytest.mark.parametrize("name", ["stability", "rates"])
def test_nothing_yet(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"there are no results in .*: run `flowvi reproduce {name}` first"):
        {"stability": stability, "rates": rates}[name].sections(tmp_path)
