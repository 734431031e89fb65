"""Every preset makes a model that trains and is tested; a few updates by default, 500 from the command line if slow."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from flowvi.experiments.evaluate import test as run_test
from flowvi.experiments.presets import PRESETS
from flowvi.experiments.train import train

# of equal models, and of one family at several lengths, one; test_cifar10.py has those whose data are not shipped
DISTINCT = [
    name
    for name in PRESETS
    if name not in ("dlgm.nf0.mnist", *(f"dlgm.nf{k}.mnist" for k in (20, 40, 80))) and name.endswith(".mnist")
]


@pytest.mark.parametrize("name", [name for name in DISTINCT if name[9:] not in ("20.mnist", "40.mnist", "80.mnist")])
def test_a_preset_trains_and_is_tested(name: str, tmp_path: Path) -> None:
    settings = {"training.updates": 2, "training.warmup": 1, "training.validate_every": 2, "data.validation": 100}
    run = train(name, out=tmp_path / "run", **settings)
    result = run_test(run, samples=2, images=20)
    assert all(math.isfinite(result[key]) for key in ("free_energy", "nll", "kl"))
    kind = PRESETS[name].settings["flow.kind"]
    assert result["flow"] == kind.lower()


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTINCT)
def test_a_preset_from_the_command_line(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flowvi"]
    folder = str(tmp_path / "run")
    subprocess.run([*command, "train", f"--config={name}", "training.updates=500", "--out", folder], check=True)
    tested = subprocess.run([*command, "test", folder, "images=500"], check=True, capture_output=True, encoding="utf-8")
    assert "−ln p(x)" in tested.stdout
    assert "NaN" not in tested.stdout
