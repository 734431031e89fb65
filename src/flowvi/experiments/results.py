"""Results: what was measured, under what, by what; one flat JSON object each."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from flowvi.data import Dataset
from flowvi.errors import RunError
from flowvi.experiments.command import config_words
from flowvi.experiments.estimators.registry import IDENTITY
from flowvi.experiments.lines import read_lines, read_record, write_lines
from flowvi.experiments.run import Run, as_run
from flowvi.experiments.turns import in_turn
from flowvi.flows.registry import family
from flowvi.provenance import provenance

__all__ = ["collect", "describe", "mean_and_error"]


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean of per-image values and its standard error, s/√N (NaN for one image)."""
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), error


def describe(run: Run, dataset: Dataset, model: nn.Module, selected_update: int | None) -> dict[str, Any]:
    """The keys of a result that say what the model is and how it was trained."""
    config = run.config
    flow, training = config.flow, config.training
    options = flow.options
    return {
        "config": run.config.preset,
        "config_hash": config.hash(),
        "command": config_words(config),
        "seed": config.seed,
        "data": dataset.name,
        "binarisation": dataset.binarisation,
        "data_seed": dataset.seed,
        "subset": dataset.subset,
        "protocol": training.protocol,
        "flow": flow.kind.lower(),
        "length": flow.length,
        "flow_options": _unusual(flow.kind, options),
        "invertibility": options.get("invertibility"),
        "init": options.get("init"),
        "parameters_source": _parameters_source(options),
        "parameter_count": sum(p.numel() for p in model.parameters()),
        "latents": list(config.model.latents),
        "maxout": config.model.maxout,
        "learning_rate": training.learning_rate,
        "clip": training.clip,
        "clip_image": training.clip_image,
        "updates": training.updates,
        "batch": training.batch,
        "objective": training.objective,
        "training_samples": training.samples,
        "selection": training.selection,
        "selected_update": selected_update,
        "train_images": len(dataset.train),
        "precision": config.precision,
        **provenance(),
    }


# options with a key of their own in a result
_OWN_KEYS = "parameters", "init", "invertibility"


def collect(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> int:
    """Append the results of run folders to a file of JSON lines; a result that is there already is replaced.

    Returns:
        How many results were written.

    Raises:
        RunError: a folder that is no run or has no result, or a file that cannot be read or written.
    """
    out = Path(out)
    found: list[dict[str, Any]] = []
    for folder in runs:
        files = sorted(as_run(folder).folder.glob("result*.json"))
        if not files:
            raise RunError(f"no result in {folder}: run `flowvi test {folder}` first")
        found += [read_record(file, file.read_text()) for file in files]
    with in_turn(out, "name another file"):
        write_lines(out, {_identity(record): record for record in [*read_lines(out), *found]}.values())
    return len(found)


def _identity(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(key) for key in IDENTITY)


def _parameters_source(options: dict[str, Any]) -> str | None:
    source = options.get("parameters")
    return "amortised" if source == "auto" else source


def _unusual(kind: str, options: dict[str, Any]) -> str | None:
    """The flow's options that are not as its family has them by default, as `bottleneck=8,mixing=orthogonal`."""
    usual = {name: option.default for name, option in family(kind).options.items() if name not in _OWN_KEYS}
    words = {name: list(default) if isinstance(default, tuple) else default for name, default in usual.items()}
    parts = [f"{name}={options[name]}" for name in sorted(words) if options[name] != words[name]]
    return ",".join(parts) or None
