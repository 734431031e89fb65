"""The files of `examples/` run, and print their fits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
# docs/fit.md fits the same model, and is run too
SLOW = {"eight_schools"}


@pytest.mark.parametrize(
    "path", [pytest.param(each, marks=[pytest.mark.slow] * (each.stem in SLOW), id=each.stem) for each in EXAMPLES]
)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "VERDICT: " in done.stdout
