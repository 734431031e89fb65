"""The sections of a config: every key, its type, its range and, where no protocol sets it, its default.

Strict: a value of another type is refused, never bent, but for three spellings that a command line needs:
`1e3` for a whole number, `none` for nothing, and `32` for the precision "32". Imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from flowvi.data.registry import DATASETS, entry_of
from flowvi.flows.registry import FAMILIES, check_options

__all__ = [
    "SECTIONS",
    "Allowed",
    "DataConfig",
    "FlowConfig",
    "Least1",
    "ModelConfig",
    "Precision",
    "Section",
    "Seed",
    "TrainingConfig",
]

MOST_IMAGES = max(entry.training_images for entry in DATASETS.values())


@dataclass(frozen=True)
class Allowed:
    """What a key takes, in words, for the message about a value that it does not take."""

    text: str


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _none(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() in ("none", "null") else value


def _digits(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _sequence(value: Any) -> Any:
    return tuple(map(_whole, value)) if isinstance(value, list) else value


def _maxout(value: str) -> str:
    match = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)", value, flags=re.ASCII)
    if match is None or int(match[1]) % int(match[2]):
        raise ValueError("not two sizes, the first divisible by the second")
    return value


def _dotted_path(value: str) -> str:
    module, _, name = value.partition(":")
    if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ValueError("not module:Class")
    return value


Least0 = Annotated[int, BeforeValidator(_whole), Field(ge=0), Allowed("a whole number, 0 or more")]
Least1 = Annotated[int, BeforeValidator(_whole), Field(ge=1), Allowed("a whole number, 1 or more")]
Seed = Annotated[int, BeforeValidator(_whole), Field(ge=0, lt=2**32), Allowed("a whole number from 0 to 4294967295")]
HeldOut = Annotated[
    int,
    BeforeValidator(_whole),
    Field(ge=0, lt=MOST_IMAGES),
    Allowed(f"a whole number from 0 to {MOST_IMAGES - 1}"),
]
Positive = Annotated[float, Field(gt=0), Allowed("a number above 0")]
Momentum = Annotated[float, Field(ge=0, lt=1), Allowed("a number from 0 up to, not including, 1")]
Clip = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_none), Allowed("a number above 0, or none")]
Features = Annotated[
    Annotated[int, Field(ge=1)] | None,
    BeforeValidator(_none),
    BeforeValidator(_whole),
    Allowed("the number of features in a bit-packed row (a whole number, 1 or more), or none"),
]
FilePath = Annotated[
    Annotated[str, Field(min_length=1)] | None,
    BeforeValidator(_none),
    Allowed("the path of a .npz or .npy file, or none"),
]
DottedPath = Annotated[
    Annotated[str, AfterValidator(_dotted_path)] | None,
    BeforeValidator(_none),
    Allowed("a class as package.module:Class, or none"),
]
Name = Annotated[str, Field(pattern=r"^[\w.+-]+$"), Allowed("a name of letters, digits and . _ + -")]
Kind = Annotated[str, Allowed(f"one of {', '.join(sorted(FAMILIES))}, zuko.NAME, or several joined by +")]
Latents = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...],
    BeforeValidator(_sequence),
    Field(min_length=1),
    Allowed("a list of whole numbers, each 1 or more, such as [64,32]"),
]
Maxout = Annotated[
    str,
    AfterValidator(_maxout),
    Allowed("the units before and after the window, the first divisible by the second, such as 1600-400"),
]
Precision = Annotated[Literal["32", "bf16"], BeforeValidator(_digits)]


class Section(BaseModel):
    """Strict, without extra keys, without NaN or infinity, and not to be changed once made."""

    # A validator is built when first needed, so the sections never build one beside the whole config's.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


class DataConfig(Section):
    """Which images, how they become binary, and how they are split."""

    name: Name = "mnist"  # of a file of one's own: the file's name without its ending
    path: FilePath = None  # absolute once resolved
    packed: Features = None  # features in a row of a bit-packed file
    binarisation: Literal["fixed", "dynamic", "threshold"] = "fixed"
    seed: Seed = 2015  # of the binarisation and of the 80/10/10 split
    validation: HeldOut = 10_000  # images held out of the training images

    @property
    def likelihood(self) -> str:
        """The likelihood of the pixels, as the data set's entry names it."""
        return entry_of(self.name, self.path).likelihood

    @property
    def pixels(self) -> str:
        """What becomes of the pixels, in words."""
        binarised = entry_of(self.name, self.path).binarised
        return f"{self.binarisation} binarisation" if binarised else "continuous pixels"


class ModelConfig(Section):
    """The networks. `maxout`: units before and after the window. `encoder`, `decoder`: one's own networks."""

    latents: Latents = (40,)
    maxout: Maxout = "1600-400"
    encoder: DottedPath = None
    decoder: DottedPath = None


class FlowConfig(Section):
    """The posterior's flow. Written out flat: `kind`, `length`, then the options of that family."""

    kind: Kind = "planar"
    length: Least0 = 10
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, flat: Any) -> Any:
        own = {key: flat[key] for key in ("kind", "length") if key in flat}
        return {**own, "options": {key: value for key, value in flat.items() if key not in own}}

    @field_validator("options")
    @classmethod
    def _fill(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "kind" not in info.data:
            return options
        filled = check_options(info.data["kind"], options)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in filled.items()}

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"kind": self.kind, "length": self.length, **self.options}


class TrainingConfig(Section):
    """How to train. The keys without a default here have one in every protocol."""

    protocol: Literal["paper", "modern", "quick"] = "modern"
    updates: Least1
    batch: Least1 = 100
    optimiser: Literal["adam", "rmsprop"]
    learning_rate: Positive
    momentum: Momentum  # of rmsprop
    schedule: Literal["constant", "cosine"]
    clip: Clip  # largest norm of the gradient
    clip_image: Clip = None  # largest norm of an image's gradient by what conditions its posterior
    objective: Literal["elbo", "iwae"] = "elbo"
    samples: Least1 = 1  # of the posterior, for each image and update
    annealing: Literal["joint", "kl", "none"]
    warmup: Least1  # updates until beta = 1
    selection: Literal["last", "validation"]  # which weights are tested
    output_bias: Literal["mean", "zero"]  # the decoder's, at the start
    log_every: Least1 = 100  # updates, as the two below
    validate_every: Least1 = 1_000
    checkpoint_every: Least1 = 1_000
    checkpoint_seconds: Positive = 300.0


SECTIONS: dict[str, type[Section]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "flow": FlowConfig,
    "training": TrainingConfig,
}
