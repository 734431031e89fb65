"""Load a trained model."""

from __future__ import annotations

import os

import torch

from flowvi.errors import CheckpointError
from flowvi.experiments.assembly import assemble
from flowvi.experiments.checkpoints import fill, read_weights
from flowvi.experiments.run import Run, as_run
from flowvi.models import DLGM

__all__ = ["load"]


def load(run: Run | str | os.PathLike[str]) -> DLGM:
    """The trained model of a run, or of any folder with its `model.safetensors` and `config.json`.

    Returns:
        The model on the CPU, in evaluation mode: `model.posterior(x)`, `model.sample(n)`, `model.log_joint(x, z)`.

    Raises:
        RunError: there is no run in that folder.
        CheckpointError: its weights are missing, damaged, or of another model.

    Example:
        >>> model = load("runs/dlgm.nf10.mnist/0")  # doctest: +SKIP
    """
    run = as_run(run)
    if not run.weights.exists():
        hint = "training has not finished; run the same train command again to continue it"
        raise CheckpointError(f"no weights at {run.weights}: {hint}")
    state = read_weights(run.weights)
    features = state.pop("features", None)
    if features is None:
        raise CheckpointError(f"{run.weights} does not hold the weights of a flowvi model")
    with torch.random.fork_rng([]):  # the weights that are drawn here are not used
        model = assemble(run.config, int(features))
    fill(model, state, run.weights)
    return model.eval()
