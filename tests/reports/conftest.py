from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowvi.experiments.arms.store import Store

BROWSERS = "chromium", "chromium-browser", "google-chrome"

_RECORD: dict[str, Any] = {
    "config": "dlgm.nf20.mnist",
    "config_hash": "1a77e9ef6bfa",
    "seed": 0,
    "data": "mnist",
    "binarisation": "fixed",
    "protocol": "modern",
    "flow": "planar",
    "length": 20,
    "invertibility": "centred",
    "init": "identity",
    "parameters_source": "amortised",
    "latents": [40],
    "maxout": "1600-400",
    "updates": 20_000,
    "batch": 100,
    "objective": "elbo",
    "training_samples": 1,
    "selection": "validation",
    "selected_update": 19_000,
    "train_images": 50_000,
    "precision": "32",
    "free_energy": 94.651,
    "free_energy_se": 0.24,
    "nll": 90.118,
    "nll_se": 0.229,
    "kl": 4.533,
    "kl_se": 0.019,
    "effective_samples": 12.34,
    "effective_samples_se": 0.11,
    "estimator": "is",
    "samples": 200,
    "split": "test",
    "images": 10_000,
    "train_seconds": 1510.0,
    "test_seconds": 90.0,
}


@pytest.fixture(scope="session")
def record() -> dict[str, Any]:
    """A result as `flowvi test` writes it; tests change copies of it."""
    return dict(_RECORD)


MakeResults = Callable[..., Path]


@pytest.fixture
def make_results(record: dict[str, Any], tmp_path: Path) -> MakeResults:
    """Makes up a comparison's files: `figures` has F and −ln p(x) of each arm; each seed is `spread` off."""

    def make(
        name: str, figures: Mapping[str, tuple[float, float]], *, seeds: int = 3, spread: float = 0.1, images: int = 50
    ) -> Path:
        random = np.random.default_rng(0)
        hardness = random.normal(0, 20, images)  # of an image, for all models alike
        hardness -= hardness.mean()
        store, found = Store(tmp_path, name), []
        for arm, (free_energy, nll) in figures.items():
            for seed in range(seeds):
                off = spread * (seed - (seeds - 1) / 2)
                file = tmp_path / f"{len(found)}.npz"
                values = {"free_energy": free_energy + off + hardness, "log_evidence": -(nll + off + hardness)}
                np.savez(file, row=np.arange(images), **values)
                kind, _, length = arm.partition("-")
                own = {
                    "config_hash": arm, "seed": seed, "arms": [arm], "budget": "short", "overrides": {}, "flow": kind,
                    "length": int(length) if length.isdigit() else None, "parameter_count": 1000, "images": images,
                    "free_energy": free_energy + off, "nll": nll + off, "kl": free_energy - nll,
                }  # fmt: skip
                found.append(({**record, **own}, file))
        store.add(found)
        return tmp_path

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window. Without one these tests skip, but not where FLOWVI_NEEDS_BROWSER is set."""
    absent = pytest.fail if os.environ.get("FLOWVI_NEEDS_BROWSER") else pytest.skip
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        absent(f"no browser: install one of {', '.join(BROWSERS)}")
    try:
        api = import_module("playwright.sync_api")
    except ImportError:
        absent("no playwright: it is in requirements-dev.txt")
    with api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()
