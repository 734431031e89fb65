"""A fit on the disk: `config.json` and `model.safetensors`, read without running anything that they hold."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from flowvi import flows
from flowvi.errors import CheckpointError, ConfigError, FlowviError, RunError
from flowvi.inference import spelling
from flowvi.inference.fitting.amortised.contexts import Contexts
from flowvi.inference.fitting.amortised.gap import Alone
from flowvi.inference.fitting.amortised.posterior import Amortised
from flowvi.inference.fitting.amortised.result import AmortisedFit, AmortisedStage
from flowvi.inference.fitting.amortised.rows import AverageELBO, RowEvidence
from flowvi.inference.fitting.amortised.start import Start
from flowvi.inference.fitting.amortised.verdict import RowsMeasured
from flowvi.inference.fitting.density import Counts
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.elbo import ELBO
from flowvi.inference.fitting.joint import Joint
from flowvi.inference.fitting.located import Located
from flowvi.inference.fitting.mixture import Mixture
from flowvi.inference.fitting.modes import Mode
from flowvi.inference.fitting.optimise import Block, Trace
from flowvi.inference.fitting.probes import Chains, Measured, Missed
from flowvi.inference.fitting.rebased import Rebased
from flowvi.inference.fitting.result import Fit, Restart, Stage
from flowvi.inference.fitting.summary import versions
from flowvi.inference.fitting.verdict import Verdict
from flowvi.inference.fitting.weights import Weighed
from flowvi.inference.supports import Support

__all__ = ["KIND", "check_folder", "load_fit", "save"]

KIND = "fit"
_FORMAT = 1
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_MADE = (
    Fit, Stage, Restart, Trace, Block, ELBO, Effort, Counts, Joint, Measured, Weighed, Missed, Mode, Chains, Verdict,
    AmortisedFit, AmortisedStage, AverageELBO, RowEvidence, RowsMeasured, Alone, Contexts,
)  # fmt: skip
_CLASSES: dict[str, Any] = {each.__name__: each for each in _MADE}
_LEFT_OUT = "density"  # the user's own function
# what reading raises where a file holds something else than was written
_NOT_OURS = (
    SafetensorError, FlowviError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, MemoryError,
)  # fmt: skip


def save(fit: Fit | AmortisedFit, path: str | os.PathLike[str]) -> None:
    """Write a fit to a folder, new, empty or of an older fit.

    Raises:
        ConfigError: a flow that `flowvi.flows.build` did not make.
        RunError: the folder holds something else, or cannot be written.
    """
    folder, tensors = Path(path), dict[str, Tensor]()
    body = _encoded(fit, "", tensors)
    weights = save_tensors(tensors)
    config = {
        "kind": KIND,
        "format": _FORMAT,
        "versions": versions(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "fit": body,
    }
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / _WEIGHTS, weights)
        _replace(folder / _CONFIG, (json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise RunError(f"cannot write the fit to {folder}: {error.strerror}; choose another folder") from error


def load_fit(path: str | os.PathLike[str]) -> Fit | AmortisedFit:
    """The fit in a folder, on the CPU: it samples, evaluates and prints as it did, but has no log density.

    Raises:
        CheckpointError: a file is missing, damaged, or of another version.

    Example:
        >>> fit = load_fit("my-fit")  # doctest: +SKIP
    """
    folder = Path(path)
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
        weights = (folder / _WEIGHTS).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{folder / _CONFIG} is damaged: {error}") from error
    if not isinstance(config, dict) or config.get("kind") != KIND or config.get("format") != _FORMAT:
        raise CheckpointError(f"{folder / _CONFIG} is not that of a fit, or another version of flowvi wrote it")
    if hashlib.sha256(weights).hexdigest() != config.get("weights_sha256"):
        raise CheckpointError(f"{folder / _WEIGHTS} is damaged, or not of the same fit as {_CONFIG}: save it again")
    try:
        found = _decoded(config["fit"], load_tensors(weights))
    except _NOT_OURS as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{folder / _CONFIG} does not describe a fit of this version of flowvi: {why}") from error
    if not isinstance(found, Fit | AmortisedFit):
        raise CheckpointError(f"{folder / _CONFIG} does not describe a fit")
    return found


def check_folder(folder: Path) -> None:
    """Only a fit is replaced.

    Raises:
        RunError: the folder holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: a fit is saved as a folder; choose another name")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    with suppress(OSError, ValueError, AttributeError):
        if json.loads((folder / _CONFIG).read_bytes()).get("kind") == KIND:
            return
    raise RunError(f"{folder} holds other files than a fit's: choose a new or empty folder")


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def _encoded(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """As JSON: what is no plain value is an object of one key, which starts with `$`; tensors go by their place."""

    def each(items: Mapping[str, Any]) -> dict[str, Any]:
        return {key: _encoded(item, f"{place}.{key}", tensors) for key, item in items.items()}

    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors[place] = value.detach().to("cpu", copy=True).contiguous()
        return {"$tensor": place}
    if isinstance(value, tuple | list):
        items = list(each({str(i): item for i, item in enumerate(value)}).values())
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        return {"$dict": each(value)}
    if isinstance(value, Support):
        return {"$support": [value.name, *value.arguments]}
    if isinstance(value, Located):
        return {"$located": {"full": value.full, "flow": _built(value.flow), "state": each(value.state_dict())}}
    if isinstance(value, Amortised):
        made = {"kind": value.kind, "full": value.full, "options": value.options}
        return {"$amortised": each({**made, "state": value.state_dict()})}
    if type(value) in _CLASSES.values():
        named = {field.name: getattr(value, field.name) for field in fields(value) if field.name != _LEFT_OUT}
        return {f"${type(value).__name__}": each(named)}
    raise TypeError(f"{place} is a {type(value).__name__}, for which a saved fit has no form")


def _built(flow: nn.Module) -> dict[str, Any]:
    """The words that make the flow again, but for its tensors."""
    if isinstance(flow, Mixture):
        return {"mixture": str(flow.degrees)}
    if isinstance(flow, Rebased):
        return {"flow": _built(flow.flow), "base": _built(flow.base)}
    built = getattr(flow, "built", None)
    if built is None:
        raise ConfigError(
            f"this fit's flow is a {type(flow).__name__} of your own, which no file can make again: fit with "
            "flow='planar' or another kind, or with a module from flowvi.flows.build(kind, …); or save "
            "fit.stage.module.state_dict() yourself and keep the code that makes the flow"
        )
    return dict(built)


def _decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `_encoded` wrote. Nothing is made but what stands here: no name in a file is looked up elsewhere."""
    if isinstance(value, list):
        return [_decoded(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((form, inner),) = value.items()
    if form == "$float":
        return float(inner)
    if form == "$tensor":
        return tensors[inner]
    if form == "$tuple":
        return tuple(_decoded(item, tensors) for item in inner)
    if form == "$support":
        return spelling.support(inner[0], inner[1:])
    if form == "$located":
        return _located(**{**inner, "state": {key: _decoded(item, tensors) for key, item in inner["state"].items()}})
    items = {key: _decoded(item, tensors) for key, item in inner.items()}
    if form == "$amortised":
        return _amortised(**items)
    return items if form == "$dict" else _CLASSES[form.removeprefix("$")](**items)


def _located(full: bool, flow: dict[str, Any], state: dict[str, Tensor]) -> Located:
    with torch.random.fork_rng([]):  # the weights that are drawn here are not used
        module = Located(_flow(flow, state, "flow."), state["mean"], state["scale"], full)
    module.load_state_dict(state)
    return module.requires_grad_(False)


def _amortised(kind: str, full: bool, options: dict[str, Any], state: dict[str, Tensor]) -> Amortised:
    names = "start_mean", "start_scale", "slope", "context_mean", "context_sd"
    with torch.random.fork_rng([]):  # the weights that are drawn here are not used
        module = Amortised(Start(*(state[name] for name in names)), kind, full, **options)
    module.load_state_dict(state)
    return module.requires_grad_(False)


def _flow(words: dict[str, Any], state: dict[str, Tensor], place: str) -> nn.Module:
    """The flow that `_built` wrote down, of whose tensors those of a mixture are found by their place."""
    if "mixture" in words:
        weights, means, scales = (state[f"{place}{name}"] for name in ("weights", "means", "scales"))
        return Mixture(weights, means, scales, float(words["mixture"]))
    if "base" in words:
        flow = _flow(words["flow"], state, f"{place}flow.")
        if not isinstance(flow, flows.Flow):
            raise CheckpointError("a base belongs to one of flowvi's flows")
        return Rebased(flow, _flow(words["base"], state, f"{place}base."))
    return flows.build(**words).to(state["mean"])
