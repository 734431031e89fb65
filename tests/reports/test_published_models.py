"""The models under `results/models` are the runs that the results tell of, and measure what these say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import flowvi
from flowvi.experiments.arms.headline import is_headline
from flowvi.experiments.arms.store import Store
from flowvi.experiments.assembly import load_data
from flowvi.experiments.config import resolve
from flowvi.experiments.estimators.importance import evidence_of_images

RESULTS = Path(__file__).parents[2] / "results"
IMAGES, SAMPLES = 100, 50


@pytest.mark.parametrize(("preset", "arm"), [("dlgm.dc.mnist", "gaussian-0"), ("dlgm.nf10.mnist", "planar-10")])
def test_a_published_model_is_its_headline_run(preset: str, arm: str) -> None:
    folder = RESULTS / "models" / preset
    store = Store(RESULTS, "figure4")
    record, on_file = store.of(arm)[0], store.images(arm)[0]
    assert is_headline([record])
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == record["weights_sha256"]
    assert digest in (folder / "README.md").read_text()
    images = load_data(resolve(preset, {"data.binarisation": "fixed"}), torch.device("cpu")).test
    model = flowvi.load(folder).requires_grad_(False)
    found = evidence_of_images(model, images, torch.arange(IMAGES), SAMPLES, seed=0)
    change = found.free_energy.numpy() - on_file.free_energy[np.argsort(on_file.row)][:IMAGES]
    assert abs(change.mean()) < 4 * change.std() / IMAGES**0.5
    assert change.std() < 1  # the noise of 50 samples: the same images, the same model
