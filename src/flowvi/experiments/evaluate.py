"""Test a trained run: free energy, KL and −ln p(x), with standard errors over the test images."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from flowvi.errors import RunError
from flowvi.experiments.assembly import choose_device, load_data
from flowvi.experiments.estimators.measured import Measured
from flowvi.experiments.estimators.registry import complete, measuring, usable
from flowvi.experiments.lines import read_record
from flowvi.experiments.load import load
from flowvi.experiments.results import describe
from flowvi.experiments.run import Run, as_run, atomic_write, result_path
from flowvi.provenance import provenance

__all__ = ["on_file", "result_path", "test"]


def test(run: Run | str | os.PathLike[str], *, estimator: str = "is", **settings: Any) -> dict[str, Any]:
    """Test a trained run, write the result beside it, and return it.

    Networks and flows run in float32 whatever the training's precision was.

    Args:
        run: a run, or its folder.
        estimator: `is`, importance sampling from the posterior; `ais`, annealed importance sampling, beside `is` with
            S = 5,000 on the same images; `bdmc`, bidirectional Monte Carlo on images that the model makes.
        settings: of the estimator. `is`: `samples` (S, 200) for each image, `images` (None, all). `ais`:
            `distributions` (1000), `chains` (16) for each image, `initial` (`posterior` or `prior`), `images` (None,
            100). `bdmc`: the same, to simulate so many images. Test images that are not all are a random subset, the
            same for every run of the same data seed.

    Returns:
        The flat record that `result.json` holds (another file where a setting is not the default).

    Raises:
        ConfigError: an estimator or setting that does not exist, a value out of range.
        RunError: there is no such run, or the result cannot be written.
        CheckpointError: its weights are missing or damaged.
        NonFiniteError: the model's density is not finite wherever chains start.

    Example:
        >>> result = test("runs/dlgm.nf10.mnist/0", samples=50, images=1000)  # doctest: +SKIP
        >>> result["nll"], result["nll_se"]  # doctest: +SKIP
    """
    run = as_run(run)
    complete_settings = complete(estimator, settings)
    model = load(run)
    weights = _digest(run)
    model.precision = "32"
    model.requires_grad_(False)
    device = choose_device(run.config.device)
    dataset = load_data(run.config, device)
    started = time.monotonic()
    found: Measured = measuring(estimator)(model.to(device), dataset, complete_settings, run.config.seed)
    record = {
        **describe(run, dataset, model, _selected_update(run)),
        "weights_sha256": weights,
        "estimator": estimator,
        **complete_settings,
        **found.figures,
        "train_seconds": _train_seconds(run),
        "test_seconds": time.monotonic() - started,
        "test_precision": "32",
    }
    _write(result_path(run.folder, estimator=estimator, **settings), record, found.images)
    return record


def on_file(run: Run | str | os.PathLike[str], *, estimator: str = "is", **settings: Any) -> dict[str, Any] | None:
    """The record of such a test that was made before, of the same weights by the same versions; None without one.

    Raises:
        ConfigError: an estimator or setting that does not exist, a value out of range.
        RunError: there is no such run.
    """
    run = as_run(run)
    path = result_path(run.folder, estimator=estimator, **settings)
    if not (path.exists() and path.with_suffix(".npz").exists() and run.finished):
        return None
    expected: dict[str, Any] = {
        "config_hash": run.config.hash(),
        "seed": run.config.seed,
        "weights_sha256": _digest(run),
        "versions": provenance()["versions"],
        "estimator": estimator,
        **{name: value for name, value in complete(estimator, settings).items() if value is not None},
    }
    try:
        record = read_record(path, path.read_text())
    except (OSError, UnicodeDecodeError, RunError):  # a new test replaces it
        return None
    return record if expected.items() <= record.items() and usable(record) else None


def _digest(run: Run) -> str:
    return hashlib.sha256(run.weights.read_bytes()).hexdigest()


def _write(path: Path, record: dict[str, Any], images: Mapping[str, Tensor]) -> None:
    with atomic_write(path.with_suffix(".npz")) as out:
        np.savez(out, allow_pickle=False, **{name: values.numpy() for name, values in images.items()})
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
