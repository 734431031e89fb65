"""The files of `examples/` print their fits: with little effort each time, with their own where there is time."""

from __future__ import annotations

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from flowvi.inference.fitting.effort import EFFORTS

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
LITTLE = replace(
    EFFORTS["fast"],
    restarts=1,
    block=5,
    blocks=4,
    races=2,
    draws=500,
    evidence=2000,
    chains=8,
    distributions=3,
)


@each_example
def test_its_code(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fit is poor, and what it says of itself is not looked at."""
    for module in ("entry", "amortised.gap"):
        monkeypatch.setattr(f"flowvi.inference.fitting.{module}.EFFORTS", MappingProxyType({"fast": LITTLE}))
    monkeypatch.setattr("flowvi.inference.fitting.amortised.gap._ROWS", 1)
    monkeypatch.setattr("flowvi.inference.fitting.search._STARTS", 8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert "VERDICT: " in capsys.readouterr().out


@pytest.mark.slow
@each_example
def test_it_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "VERDICT: " in done.stdout
