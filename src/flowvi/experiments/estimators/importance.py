"""`estimator=is`: importance sampling from the run's posterior."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flowvi.data import Dataset, Images
from flowvi.experiments.estimators.measured import Measured, noise, summary, test_rows
from flowvi.experiments.progress import counting
from flowvi.inference import Evidence, importance_sampling
from flowvi.models import DLGM

__all__ = ["evidence_of_images", "measure"]

IMAGES_AT_ONCE = 100


def measure(model: DLGM, dataset: Dataset, settings: Mapping[str, Any], seed: int) -> Measured:
    """F(x), ln p̂(x) and KL = F + ln p̂ from the same importance weights, S for each image.

    As E[ln p̂] ≤ ln p, −ln p̂ is biased up and the KL down, the less so the more samples.
    """
    rows = test_rows(dataset, settings["images"])
    evidence = evidence_of_images(model, dataset.test, rows, settings["samples"], seed)
    values = {
        "free_energy": evidence.free_energy,
        "nll": -evidence.log_evidence,
        "kl": evidence.kl,
        "effective_samples": evidence.effective_samples,
    }
    images = {
        "row": rows,
        "free_energy": evidence.free_energy,
        "log_evidence": evidence.log_evidence,
        "effective_samples": evidence.effective_samples,
    }
    return Measured({**summary(values), "split": "test", "images": len(rows)}, images)


def evidence_of_images(model: DLGM, images: Images, rows: Tensor, samples: int, seed: int) -> Evidence:
    """Importance-sampled estimates for the images of `rows`; the noise comes from `seed` alone."""
    parts = []
    with noise(images.pixels.device, seed), counting(len(rows), "test images") as advance:
        for some in rows.split(IMAGES_AT_ONCE):
            x = images.batch(some)
            with torch.no_grad():
                posterior = model.posterior(x)
            parts.append(importance_sampling(partial(model.log_joint, x), posterior, samples))
            advance(len(some))
    return Evidence(
        torch.cat([p.free_energy for p in parts]).cpu(),
        torch.cat([p.log_evidence for p in parts]).cpu(),
        torch.cat([p.effective_samples for p in parts]).cpu(),
    )
