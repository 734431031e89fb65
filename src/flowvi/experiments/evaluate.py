"""Test a trained run: free energy, KL and −ln p(x), with standard errors over the test images."""

from __future__ import annotations

import hashlib
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowvi.data import Dataset, Images, epoch_order
from flowvi.errors import ConfigError
from flowvi.experiments.assembly import choose_device, load_data
from flowvi.experiments.load import load
from flowvi.experiments.progress import counting
from flowvi.experiments.results import describe, mean_and_error
from flowvi.experiments.run import DEFAULT_SAMPLES, Run, as_run, atomic_write, result_path
from flowvi.inference import Evidence, importance_sampling
from flowvi.models import DLGM

__all__ = ["evidence_of_images", "result_path", "test"]

IMAGES_AT_ONCE = 100


def test(
    run: Run | str | os.PathLike[str],
    *,
    estimator: str = "is",
    samples: int = DEFAULT_SAMPLES,
    images: int | None = None,
) -> dict[str, Any]:
    """Test a trained run, write the result beside it, and return it.

    F(x), ln p̂(x) and KL = F + ln p̂ come from the same importance weights; as E[ln p̂] ≤ ln p, −ln p̂ is biased up
    and the KL down, the less so the more samples. Networks and flows run in float32 whatever the training's
    precision was.

    Args:
        run: a run, or its folder.
        estimator: `is`, importance sampling from the posterior.
        samples: S, for each image.
        images: a random subset of so many test images (the same for every run of the same data seed); None: all.

    Returns:
        The flat record that `result.json` holds (another file where samples or images are not the default).

    Raises:
        ConfigError: an estimator that does not exist, samples or images out of range.
        RunError: there is no such run, or the result cannot be written.
        CheckpointError: its weights are missing or damaged.

    Example:
        >>> result = test("runs/dlgm.nf10.mnist/0", samples=50, images=1000)  # doctest: +SKIP
        >>> result["nll"], result["nll_se"]  # doctest: +SKIP
    """
    run = as_run(run)
    if estimator != "is":
        raise ConfigError(f"estimator={estimator}: allowed is `is` (importance sampling)")
    if samples < 1:
        raise ConfigError(f"samples={samples}: allowed is 1 or more")
    model = load(run)
    weights = hashlib.sha256(run.weights.read_bytes()).hexdigest()
    model.precision = "32"
    device = choose_device(run.config.device)
    dataset = load_data(run.config, device)
    rows = _rows(dataset, images)
    started = time.monotonic()
    evidence = evidence_of_images(model.to(device), dataset.test, rows, samples, run.config.seed)
    record = {
        **describe(run, dataset, model, _selected_update(run)),
        "weights_sha256": weights,
        **_summary(evidence),
        "estimator": estimator,
        "samples": samples,
        "split": "test",
        "images": len(rows),
        "train_seconds": _train_seconds(run),
        "test_seconds": time.monotonic() - started,
        "test_precision": "32",
    }
    _write(result_path(run.folder, estimator=estimator, samples=samples, images=images), record, rows, evidence)
    return record


def evidence_of_images(model: DLGM, images: Images, rows: Tensor, samples: int, seed: int) -> Evidence:
    """Importance-sampled estimates for the images of `rows`; the noise comes from `seed` alone."""
    device = images.pixels.device
    parts = []
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        counting(len(rows), "test images") as advance,
    ):
        torch.manual_seed(seed)
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


def _rows(dataset: Dataset, images: int | None) -> Tensor:
    count = len(dataset.test)
    if images is None:
        return torch.arange(count)
    if not 1 <= images <= count:
        raise ConfigError(f"images={images}: there are {count} test images, allowed is 1 to {count}")
    return epoch_order(count, dataset.seed, 0)[:images].sort().values


def _summary(evidence: Evidence) -> dict[str, float]:
    summary: dict[str, float] = {}
    for name, values in (
        ("free_energy", evidence.free_energy),
        ("nll", -evidence.log_evidence),
        ("kl", evidence.kl),
        ("effective_samples", evidence.effective_samples),
    ):
        summary[name], summary[f"{name}_se"] = mean_and_error(values)
    return summary


def _write(path: Path, record: dict[str, Any], rows: Tensor, evidence: Evidence) -> None:
    with atomic_write(path.with_suffix(".npz")) as out:
        np.savez(
            out,
            row=rows.numpy(),
            free_energy=evidence.free_energy.numpy(),
            log_evidence=evidence.log_evidence.numpy(),
            effective_samples=evidence.effective_samples.numpy(),
        )
    with atomic_write(path) as out:
        out.write((json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def _metrics(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()] if run.metrics.exists() else []


def _train_seconds(run: Run) -> float | None:
    seconds = [line["seconds"] for line in _metrics(run) if "seconds" in line]
    return seconds[-1] if seconds else None


def _selected_update(run: Run) -> int | None:
    scores = [line for line in _metrics(run) if "validation_free_energy" in line]
    if run.config.training.selection == "validation" and not run.metrics.exists():
        return None  # a published model does not bring its history
    if run.config.training.selection != "validation" or not scores:
        return run.config.training.updates
    return int(min(scores, key=lambda line: line["validation_free_energy"])["update"])
