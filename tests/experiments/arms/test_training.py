"""The course of a training, read off its metrics; and a comparison of trainings, among them one that breaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowvi.experiments.arms.arm import Arm, Budget
from flowvi.experiments.arms.reproduce import compare
from flowvi.experiments.arms.store import Store
from flowvi.experiments.arms.training import START, course, course_of, curve
from flowvi.experiments.sweeps.jobs import keep_failure


def line(update: int, free_energy: float, norm: float = 40.0) -> dict[str, Any]:
    return {"update": update, "free_energy": free_energy, "gradient_norm": norm}


def test_the_largest_rise_is_from_the_lowest_before_it() -> None:
    found = course([line(300, 120), line(310, 100), line(320, 180, 900.0), line(330, 95), line(340, 130)])
    assert found == {"rise": 80, "risen_at": 320, "gradient_norm": 900, "validation_free_energy": None}


def test_what_falls_has_no_rise() -> None:
    assert course([line(300, 120), line(310, 100), line(320, 99)])["rise"] == -1


def test_the_first_updates_do_not_count() -> None:
    found = course([line(START - 100, 120, 1e6), line(START, 900, 1e6), line(START + 10, 300), line(START + 20, 290)])
    assert (found["rise"], found["gradient_norm"]) == (-10, 40)


def test_the_lowest_validation() -> None:
    lines = [{"update": update, "validation_free_energy": score} for update, score in ((1000, 120.0), (2000, 110.0))]
    assert course([*lines, {"update": 3000, "validation_free_energy": 115.0}])["validation_free_energy"] == 110


def test_nothing_to_read_is_none() -> None:
    assert course([]) == {"rise": None, "risen_at": None, "gradient_norm": None, "validation_free_energy": None}
    assert course([line(300, 120)])["rise"] is None


def test_the_curve_is_of_the_validated_updates_thinned_evenly() -> None:
    lines = [line(update, 200 - update / 100) for update in range(100, 10_001, 100)]
    lines += [{"update": update, "validation_free_energy": 300 - update / 100} for update in range(1000, 10_001, 1000)]
    found = curve(lines, points=4)
    assert found == {
        "update": [3000, 5000, 8000, 10_000],
        "free_energy": [170, 150, 120, 100],
        "validation_free_energy": [270, 250, 220, 200],
    }
    assert curve(lines)["update"] == list(range(1000, 10_001, 1000))


def test_the_curve_without_validation_is_of_the_training() -> None:
    assert curve([line(100, 120), line(200, 110)]) == {
        "update": [100, 200], "free_energy": [120, 110], "validation_free_energy": [None, None],
    }  # fmt: skip
    assert curve([])["update"] == []


@pytest.mark.usefixtures("here")
def test_trainings_that_ended_and_those_that_broke_are_on_file(budget: Budget, tmp_path: Path) -> None:
    arms = [
        Arm("sound", "sound", "dlgm.dc.mnist"),
        Arm("broken", "broken", "dlgm.dc.mnist", {"model.encoder": "broken_networks:NaNLoss"}),
    ]
    assert not compare("tiny", arms, ("short", budget), tmp_path, 1, figures=kept)
    sound, broken = Store(tmp_path, "tiny").records
    assert sound["arms"] == ["sound"] and "nll" in sound and sound["validation_free_energy"] > 0
    assert broken["arms"] == ["broken"] and broken["failure"].startswith("update 6: loss") and "nll" not in broken
    assert json.loads((tmp_path / "tiny.jsonl").read_text().splitlines()[1]) == broken
    assert not (tmp_path / "tiny.npz").exists()


@pytest.mark.usefixtures("here")
def test_what_fails_for_another_reason_says_nothing_of_the_training(budget: Budget, tmp_path: Path) -> None:
    def killed(job: Any) -> Any:
        if job.folder.exists() and not job.run.finished:
            keep_failure(job.folder, "its process was killed")
        return course_of(job)

    broken = Arm("broken", "broken", "dlgm.dc.mnist", {"model.encoder": "broken_networks:NaNLoss"})
    assert not compare("tiny", [broken], ("short", budget), tmp_path, 1, figures=killed)
    assert not (tmp_path / "tiny.jsonl").exists()


def kept(job: Any) -> Any:
    """As `course_of`; the stand-in for the sweep keeps no message, so it is kept here."""
    if job.folder.exists() and not job.run.finished:
        keep_failure(job.folder, "update 6: loss not finite")
    return course_of(job)
