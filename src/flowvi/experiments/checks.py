"""What is wrong with a config, in one line for each thing: the key, its value, and what it takes instead."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from flowvi.data.registry import DATASETS, entry_of
from flowvi.errors import ConfigError
from flowvi.experiments.schema import (
    SECTIONS,
    Allowed,
    DataConfig,
    Section,
    TrainingConfig,
)
from flowvi.flows.registry import FAMILIES, family

if TYPE_CHECKING:
    from flowvi.experiments.config import Config

__all__ = ["conflicts", "refused_options", "refused_values"]


def refused_options(flat: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The keys of options that the flow's family does not have, or not with that value; a line on each."""
    kind = flat.get("flow.kind", "planar")
    try:
        options = family(kind).options if isinstance(kind, str) else {}
    except ConfigError:
        return  # the schema says so; the options cannot be judged
    for key, value in flat.items():
        section, _, name = key.rpartition(".")
        if section != "flow" or name in ("kind", "length"):
            continue
        if name not in options:
            has = ", ".join(f"flow.{option}" for option in options) or "none"
            yield key, f"{key!r} is not an option of flow.kind={kind}, whose options are: {has}"
        elif not options[name].allowed.take(value):
            allowed = options[name].allowed
            yield key, _refusal(key, value, f"one of {allowed}" if isinstance(allowed, tuple) else f"{allowed}")


def refused_values(error: ValidationError, flat: Mapping[str, Any], schema: type[Section]) -> Iterator[str]:
    """A line for each key that pydantic refused in a config of `schema`, whose flat form was `flat`."""
    seen = set()
    for detail in error.errors(include_url=False):
        section, *names = (str(part) for part in detail["loc"])
        # The path may go on into a list or a union.
        key = f"{section}.{names[0]}" if names and section in SECTIONS else section
        if key in seen:
            continue
        seen.add(key)
        if key == "flow.options":
            # The family itself is unknown: the registry's own words, which name the near ones.
            yield str(detail["ctx"]["error"])
        elif key in flat:
            yield _refusal(key, flat[key], _allowed(key, schema))
        else:
            yield f"{key} is missing: it takes {_allowed(key, schema)}"


def _refusal(key: str, value: Any, takes: str) -> str:
    try:
        shown = repr(value) if isinstance(value, str) else json.dumps(value)
    except (TypeError, ValueError):
        shown = repr(value)
    if len(shown) > 60:
        shown = f"{shown[:57]}..."
    return f"{key} cannot be {shown}: it takes {takes}"


def _allowed(key: str, schema: type[Section]) -> str:
    """What the dotted `key` takes, in words."""
    section, _, name = key.rpartition(".")
    field = (SECTIONS[section] if section else schema).model_fields[name]
    for note in field.metadata:
        if isinstance(note, Allowed):
            return note.text
    return f"one of {', '.join(get_args(field.annotation))}"


def conflicts(config: Config) -> Iterator[str]:
    """A line on each pair of keys whose values cannot stand together."""
    flow, data, training = config.flow, config.data, config.training
    entry = family(flow.kind)
    if not entry.chain and flow.length > 0:
        chains = ", ".join(kind for kind, entry in FAMILIES.items() if entry.chain)
        yield (
            f"flow.kind={flow.kind} has no layers, so flow.length cannot be {flow.length}: "
            f"set flow.length=0, or flow.kind to one of {chains}"
        )
    if entry.chain and flow.length == 0:
        yield f"flow.kind={flow.kind} needs flow.length=1 or more: for 0 set flow.kind=gaussian"
    if min(config.model.latents) < entry.least:
        yield f"flow.kind={flow.kind} needs {entry.least} latents or more in each layer: raise model.latents"
    if training.optimiser != "rmsprop" and training.momentum > 0:
        yield f"training.momentum is of rmsprop: leave it out with training.optimiser={training.optimiser}"
    if config.devices > training.batch:
        yield f"training.batch={training.batch} is too small for devices={config.devices}: raise the batch"
    if data.path is None and data.name not in DATASETS:
        yield (
            f"data.name cannot be {data.name!r}: it takes one of {', '.join(DATASETS)}; "
            "give the path of a file of your own as data.path"
        )
    if data.path is None and data.packed is not None:
        yield "data.packed is for a file of your own: set data.path too, or leave it out"
    images = entry_of(data.name, data.path)
    if data.path is not None and data.packed is not None and images.takes_file:
        yield f"data.packed is for a file of your own: leave it out with data.name={data.name}"
    if not images.binarised and data.binarisation != "fixed":
        yield f"data.binarisation is of binary pixels, which data.name={data.name} does not have: leave it out"
    if data.path is None and images.training_images:
        yield from _conflicts_of_splits(data, training, images.training_images)


def _conflicts_of_splits(data: DataConfig, training: TrainingConfig, images: int) -> Iterator[str]:
    if training.selection == "validation" and data.validation == 0:
        yield (
            "training.selection=validation needs validation images: "
            "set data.validation=10000, or training.selection=last"
        )
    left = images - data.validation
    if 0 < left < training.batch:
        yield f"training.batch={training.batch} is more than the {left} training images: set {left} or less"
