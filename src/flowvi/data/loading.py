"""`load`: read a data set, binarise it, split it, put it on a device."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch

from flowvi.data.binarise import bernoulli, threshold
from flowvi.data.dataset import Dataset, Images
from flowvi.data.files import read_file
from flowvi.data.patches import patched
from flowvi.data.registry import BINARISATIONS, DATASETS, entry_of
from flowvi.data.source import KEYS, Array, Source
from flowvi.data.streams import stream
from flowvi.errors import ConfigError, DataError

if TYPE_CHECKING:
    from flowvi.data.dataset import Levels

__all__ = ["load"]


class _Part(NamedTuple):
    """Where a split comes from: an array of the source, and its rows (None: all of them, in order)."""

    key: str
    rows: npt.NDArray[np.int64] | None = None


def load(
    name: str = "mnist",
    *,
    path: str | os.PathLike[str] | None = None,
    packed: int | None = None,
    binarisation: str = "fixed",
    seed: int = 2015,
    validation: int = 10_000,
    device: torch.device | str = "cpu",
) -> Dataset:
    """Load a data set by name, or a user's own arrays by path, split and binarised, onto a device.

    The split and the Bernoulli sample depend on `seed` alone. Every stored array is sampled whole, from a
    stream of its own, before it is split, so an image's binary pixels do not depend on `validation`. Test and
    validation images are binary and fixed whatever the binarisation; under `dynamic` they are those of
    `fixed`.

    Args:
        name: a data set of `DATASETS`; unused where there is a `path`, unless that is a file of the data set.
        path: a user's .npz or .npy file; see `flowvi.data.files`, and `flowvi.data.cifar10` for one of CIFAR-10.
        packed: features of a bit-packed file's rows.
        binarisation: of data that become binary: `fixed` (one Bernoulli sample), `dynamic` (a fresh one of the training
            images at each batch) or `threshold` (pixel > 0.5). Data that are binary already stay as they are.
        seed: seed of the Bernoulli sample and of the split, in [0, 2**64).
        validation: images held out of the training images by a random permutation, where the data set brings
            no validation images of its own; 0: none. One lone array is split 80/10/10 instead.
        device: where the images go.

    Raises:
        ConfigError: an unknown name or binarisation, a seed or `validation` out of range, `packed` without
            `path`.
        DataError: data that cannot be read or are not allowed, or too few for `validation`.

    Example:
        >>> images = np.random.RandomState(0).rand(50, 9) > 0.5
        >>> np.save("mine.npy", images)
        >>> dataset = load(path="mine.npy")
        >>> len(dataset.train), len(dataset.valid), len(dataset.test), dataset.binarisation
        (40, 5, 5, 'file:mine')
    """
    _check_choices(name, path, packed, binarisation, validation)
    source = _read(name, path, packed)
    parts = _parts(source, validation, seed)
    if source.patch is not None:
        images = {split: _take(source.arrays[part.key], part.rows) for split, part in parts.items()}
        return patched(source, images, seed, device)
    return _binary(source, parts, binarisation, seed, device)


def _binary(
    source: Source, parts: Mapping[str, _Part], binarisation: str, seed: int, device: torch.device | str
) -> Dataset:
    """The data set of a source whose pixels become binary."""
    grey = {"train"} if binarisation == "dynamic" and source.levels != "binary" else set()
    bits = {
        key: _bits(source, key, binarisation, seed)
        for key in KEYS
        if any(part.key == key for split, part in parts.items() if split not in grey)
    }
    arrays: dict[str, Array] = {
        split: _take(source.arrays[part.key] if split in grey else bits[part.key], part.rows)
        for split, part in parts.items()
    }

    def images(split: str) -> Images:
        levels = source.levels if split in grey else "binary"
        return Images(torch.from_numpy(arrays[split]).to(device), levels)

    train = images("train")
    return Dataset(
        name=source.name,
        train=train,
        valid=images("valid") if "valid" in arrays else None,
        test=images("test"),
        binarisation=source.label or binarisation,
        seed=seed,
        features=source.features,
        image_shape=source.image_shape,
        mean=torch.from_numpy(_mean(arrays["train"], train.levels)).to(device),
    )


def _check_choices(
    name: str, path: str | os.PathLike[str] | None, packed: int | None, binarisation: str, validation: int
) -> None:
    if path is None and name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"unknown data.name {name!r}{hint} (allowed: {', '.join(DATASETS)}; data.path takes your own)"
        )
    if path is None and packed is not None:
        raise ConfigError(f"data.packed={packed} describes a file: give data.path, or leave data.packed out")
    if packed is not None and entry_of(name, path).takes_file:
        raise ConfigError(f"data.packed={packed} is of a file of your own: leave it out with data.name={name}")
    if packed is not None and packed < 1:
        raise ConfigError(f"data.packed={packed} is not allowed: give the number of features, at least 1")
    if binarisation not in BINARISATIONS:
        allowed = ", ".join(BINARISATIONS)
        raise ConfigError(f"unknown data.binarisation {binarisation!r}: allowed are {allowed}")
    if validation < 0:
        raise ConfigError(f"data.validation={validation} is not allowed: give a number of images, 0 for none")


def _read(name: str, path: str | os.PathLike[str] | None, packed: int | None) -> Source:
    entry = entry_of(name, path)
    if path is not None and not entry.takes_file:
        return read_file(path, packed)
    module, function = entry.reader.split(":")
    read = getattr(import_module(module), function)
    return cast(Source, read(path) if entry.takes_file else read())


def _parts(source: Source, validation: int, seed: int) -> dict[str, _Part]:
    """The splits of a source: its own, or drawn by a permutation of the seed."""
    if "all" in source.arrays:
        count = len(source.arrays["all"])
        tenth = count // 10
        if not tenth:
            raise DataError(f"{source.name}: {count} rows cannot be split 80/10/10: at least 10 are needed")
        valid, test, train = np.split(_permutation(count, seed), [tenth, 2 * tenth])
        return {"train": _Part("all", train), "valid": _Part("all", valid), "test": _Part("all", test)}
    parts = {key: _Part(key) for key in source.arrays}
    if "valid" in parts or not validation:
        return parts
    count = len(source.arrays["train"])
    if 2 * validation > count:
        raise DataError(
            f"{source.name}: data.validation={validation} cannot be held out of {count} training images: "
            f"allowed is at most half (set data.validation={count // 10}, or 0 for none)"
        )
    valid, train = np.split(_permutation(count, seed), [validation])
    return {**parts, "train": _Part("train", train), "valid": _Part("train", valid)}


def _permutation(count: int, seed: int) -> npt.NDArray[np.int64]:
    return stream(seed, "split").permutation(count).astype(np.int64, copy=False)


def _bits(source: Source, key: str, binarisation: str, seed: int) -> npt.NDArray[np.uint8]:
    if binarisation == "threshold":
        return threshold(source.arrays[key], source.levels)
    return bernoulli(source.arrays[key], source.levels, stream(seed, "sample", KEYS.index(key)))


def _take(values: Array, rows: npt.NDArray[np.int64] | None) -> Array:
    return values if rows is None else values[rows]


def _mean(values: Array, levels: Levels) -> npt.NDArray[np.float32]:
    mean: npt.NDArray[np.float64] = values.mean(axis=0, dtype=np.float64)
    return (mean / 255 if levels == "bytes" else mean).astype(np.float32)
