"""A data set and a model so small that a run of thirty updates takes a tenth of a second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PACKAGES = Path(__file__).parent / "packages"
SOURCE = Path(__file__).parents[2] / "src"
CLOCKS = {"seconds", "updates_per_second", "train_seconds", "test_seconds"}

Settings = dict[str, Any]


@pytest.fixture(autouse=True)
def _runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLOWVI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", f"{PACKAGES}{os.pathsep}{SOURCE}")
    monkeypatch.syspath_prepend(str(PACKAGES))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 binary images of 16 pixels, of two kinds; 320 to train on."""
    random = np.random.RandomState(0)
    kinds = random.rand(2, 16)[random.randint(2, size=400)]
    file = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(file, data=(random.rand(400, 16) < kinds).astype(np.uint8))
    return file


@pytest.fixture(scope="session")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 grey images of 16 pixels."""
    file = tmp_path_factory.mktemp("data") / "grey.npz"
    np.savez(file, data=np.random.RandomState(1).rand(400, 16).astype(np.float32))
    return file


@pytest.fixture
def tiny(data: Path) -> Settings:
    """Overrides that make any preset tiny."""
    return {
        "data.path": str(data),
        "device": "cpu",
        "flow.length": 2,
        "model.latents": [2],
        "model.maxout": "8-4",
        "training.batch": 20,
        "training.updates": 30,
        "training.warmup": 20,
        "training.learning_rate": 0.01,
        "training.log_every": 5,
        "training.validate_every": 10,
        "training.checkpoint_every": 10,
    }


@pytest.fixture
def words() -> Callable[..., list[str]]:
    """Overrides as the command line takes them."""

    def spell(settings: Settings, **more: Any) -> list[str]:
        return [f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in {**settings, **more}.items()]

    return spell


@pytest.fixture
def command() -> Callable[..., subprocess.Popen[str]]:
    """Starts `python -m flowvi …` as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowvi", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(process)
        return process

    yield start  # type: ignore[misc]
    for process in started:
        process.kill()
        process.communicate()


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """A record without its clock fields."""
    return {key: value for key, value in record.items() if key not in CLOCKS}


@pytest.fixture
def trace() -> Callable[[Path], dict[str, Any]]:
    """What a finished run holds, clocks aside."""

    def read(folder: Path) -> dict[str, Any]:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        best = folder / "checkpoints" / "best.safetensors"
        return {
            "weights": (folder / "model.safetensors").read_bytes(),
            "best": best.read_bytes() if best.exists() else None,
            "metrics": [timeless(json.loads(line)) for line in lines],
        }

    return read
