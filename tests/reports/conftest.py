from __future__ import annotations

from typing import Any

import pytest

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
