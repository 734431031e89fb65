"""From a config to the things it names: the data set, the model, the flow of each layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
from torch import nn

from flowvi import flows
from flowvi.data import Dataset, load
from flowvi.errors import ConfigError
from flowvi.experiments.config import Config
from flowvi.models import DLGM
from flowvi.models.likelihoods import LIKELIHOODS

__all__ = ["assemble", "choose_device", "load_data"]


def load_data(config: Config, device: torch.device) -> Dataset:
    """The config's data set on `device`.

    Raises:
        DataError: data that cannot be read or are not allowed.
    """
    data = config.data
    return load(
        data.name,
        path=data.path,
        packed=data.packed,
        binarisation=data.binarisation,
        seed=data.seed,
        validation=data.validation,
        device=device,
    )


def assemble(config: Config, features: int) -> DLGM:
    """The config's model for data of so many features, its weights drawn from the global generator.

    Raises:
        ConfigError: a network of one's own that cannot be imported or made.
    """
    model, flow = config.model, config.flow
    units, hidden = map(int, model.maxout.split("-"))
    options = flow.options

    def make_flow(latents: int, context: int) -> nn.Module:
        return flows.build(flow.kind, latents, context, flow.length, **options)

    return DLGM(
        features,
        model.latents,
        make_flow,
        maxout=(units, hidden),
        likelihood=LIKELIHOODS[config.data.likelihood](),
        encoder=_network("model.encoder", model.encoder),
        decoder=_network("model.decoder", model.decoder),
        precision=config.precision,
    )


def choose_device(device: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` stands for here.

    Raises:
        ConfigError: `cuda` where there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but this machine has no CUDA device that torch can use: try device=auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _network(key: str, path: str | None) -> Callable[[int, int], nn.Module] | None:
    if path is None:
        return None
    module, _, name = path.partition(":")
    try:
        constructor = getattr(import_module(module), name)
    except ImportError as error:
        raise ConfigError(
            f"{key}={path}: cannot import {module!r} ({error}); it has to be installed, or on PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise ConfigError(f"{key}={path}: the module {module!r} has no {name!r}") from error
    # a config may be a stranger's: of all that can be imported it gets to call networks alone
    if not (isinstance(constructor, type) and issubclass(constructor, nn.Module)):
        raise ConfigError(f"{key}={path}: is a {type(constructor).__name__}, expected a torch.nn.Module class")
    return partial(_make, key, path, constructor)


def _make(key: str, path: str, constructor: type[nn.Module], inputs: int, outputs: int) -> nn.Module:
    try:
        network = constructor(inputs, outputs)
    except TypeError as error:
        raise ConfigError(f"{key}={path}: it is called with (inputs, outputs), and refused: {error}") from error
    training = network.training
    try:
        with torch.no_grad():
            found = tuple(network.eval()(torch.zeros(2, inputs)).shape)
    except Exception as error:  # it is somebody's own: anything may go wrong in it
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{key}={path}: called with a tensor of shape (2, {inputs}), it failed: {why}") from error
    if found != (2, outputs):
        raise ConfigError(f"{key}={path}: gave shape {found} for an input of (2, {inputs}), expected (2, {outputs})")
    return network.train(training)
