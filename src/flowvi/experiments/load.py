"""Load a trained model, or a fit."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from flowvi.errors import CheckpointError
from flowvi.experiments.assembly import assemble
from flowvi.experiments.checkpoints import fill, read_weights
from flowvi.experiments.run import Run, as_run
from flowvi.inference.fitting.saved import KIND, load_fit
from flowvi.models import DLGM

__all__ = ["load"]


@overload
def load(run: Run) -> DLGM: ...
@overload
def load(run: str | os.PathLike[str]) -> Any: ...
def load(run: Run | str | os.PathLike[str]) -> Any:
    """The trained model of a run, or of any folder with its `model.safetensors` and `config.json`; or a saved fit.

    No code that the folder brings is run: weights are read as numbers, and a network of one's own that the
    config names is imported from where Python finds it, but never from within the folder.

    Returns:
        The model on the CPU, in evaluation mode: `model.posterior(x)`, `model.sample(n)`, `model.log_joint(x, z)`. Of
        a folder that `Fit.save` wrote, the fit: it samples, evaluates log_prob and prints as it did; without its log
        density, which no file holds, `resample` is refused, and `to_arviz` has no weights.

    Raises:
        RunError: there is no run in that folder, and no fit.
        CheckpointError: its weights are missing, damaged, or of another model; its config is that of another
            version; or it names a network that lies in the folder itself.
        ConfigError: a network of one's own that cannot be imported or made.

    Example:
        >>> model = load("runs/dlgm.nf10.mnist/0")  # doctest: +SKIP
    """
    if not isinstance(run, Run) and _holds_fit(Path(run)):
        _refuse_modules(Path(run), ["zuko"])
        return load_fit(run)
    return _load_model(as_run(run))


def _holds_fit(folder: Path) -> bool:
    with suppress(OSError, ValueError, RecursionError, AttributeError):
        return bool(json.loads((folder / "config.json").read_bytes()).get("kind") == KIND)
    return False


def _load_model(run: Run) -> DLGM:
    if not run.weights.exists():
        raise CheckpointError(f"no weights at {run.weights}: {_why_absent(run)}")
    state = read_weights(run.weights)
    features = _features(state, run.weights)
    _refuse_its_own_code(run)
    with torch.random.fork_rng([]):  # the weights that are drawn here are not used
        try:
            model = assemble(run.config, features)
        except (RuntimeError, MemoryError) as error:  # sizes that no memory holds
            what = str(error).splitlines()[0] if str(error) else "not enough memory"
            raise CheckpointError(f"cannot make the model of {run.folder / 'config.json'}: {what}") from error
    _check_types(model, state, run.weights)
    fill(model, state, run.weights)
    return model.eval()


def _why_absent(run: Run) -> str:
    if run.metrics.exists() or run.checkpoint.parent.exists():
        return "training has not finished; run the same train command again to continue it"
    return "a model is its config.json and its model.safetensors; fetch the folder again"


def _features(state: dict[str, Tensor], source: Path) -> int:
    """Take the number of features out of the state."""
    features = state.pop("features", None)
    if features is None or features.dtype != torch.int64 or features.numel() != 1 or features.item() < 1:
        raise CheckpointError(f"{source} does not hold the weights of a flowvi model")
    return int(features)


def _check_types(model: DLGM, state: dict[str, Tensor], source: Path) -> None:
    """Torch would convert weights of another type and say nothing."""
    for name, tensor in model.state_dict().items():
        if name in state and state[name].dtype != tensor.dtype:
            raise CheckpointError(
                f"{source} holds other weights than flowvi writes: {name} is {state[name].dtype}, not {tensor.dtype}"
            )


def _refuse_its_own_code(run: Run) -> None:
    """Python may look for modules in the present folder, which may be the very one that is loaded."""
    model = run.config.model
    modules = [path.partition(":")[0] for path in (model.encoder, model.decoder) if path]
    modules += ["zuko"] if "zuko" in run.config.flow.kind else []
    _refuse_modules(run.folder, modules)


def _refuse_modules(folder: Path, modules: list[str]) -> None:
    for module in modules:
        if module in sys.modules:
            continue
        inside = [place for place in _places(module) if place.resolve().is_relative_to(folder.resolve())]
        if inside:
            raise CheckpointError(
                f"{folder / 'config.json'} needs the module {module!r}, which the folder itself brings "
                f"({inside[0]}): flowvi does not run it. Where you trust it, import it before you load the model"
            )


def _places(module: str) -> list[Path]:
    """Where Python would find the module, told by its first package, so that nothing is imported."""
    try:
        spec = find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    return [Path(place) for place in (spec.origin, *(spec.submodule_search_locations or ())) if place is not None]
