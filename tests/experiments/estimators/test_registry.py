"""The registry of estimators: names of files, settings, and that reading it is cheap."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from flowvi.errors import ConfigError
from flowvi.experiments.estimators.registry import ESTIMATORS, IDENTITY, checked, complete, file_stem, measuring


@pytest.mark.parametrize(
    ("estimator", "given", "stem"),
    [
        ("is", {"samples": 200, "images": None}, "result"),
        ("is", {"samples": 3, "images": 5}, "result-is-3-images5"),
        ("ais", {}, "result-ais-1000"),
        ("ais", {"initial": "prior", "images": 7}, "result-ais-1000-initialprior-images7"),
        ("bdmc", {"distributions": 10, "images": 100}, "result-bdmc-10"),
    ],
)
def test_names_of_files(estimator: str, given: dict[str, Any], stem: str) -> None:
    assert file_stem(estimator, given) == stem


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_entry_is_complete(name: str) -> None:
    entry = ESTIMATORS[name]
    assert callable(measuring(name))
    assert set(entry.settings) < set(IDENTITY)
    assert "images" in entry.settings and entry.figures and entry.note
    assert complete(name, {}) == {key: setting.default for key, setting in entry.settings.items()}


def test_numbers_are_taken_as_they_are_meant() -> None:
    assert checked("ais", {"distributions": 1e3}) == {"distributions": 1000}
    for value in (0, -1, 1.5, True, "many", None, [1]):
        with pytest.raises(ConfigError, match="chains cannot be"):
            checked("ais", {"chains": value})


def test_it_imports_no_torch() -> None:
    code = "import sys, flowvi.experiments.estimators.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
