"""CIFAR-10 (Krizhevsky 2009): downloaded once, verified by its checksum, or read from a file of the same images.

The images are 32 × 32 pixels of three colours; the models see patches of 8 × 8 (`flowvi.data.patches`). Labels are not
read.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flowvi.data.files import open_arrays
from flowvi.data.source import Source
from flowvi.errors import DataError

__all__ = ["MD5", "URL", "cache_folder", "read"]

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
"""Of the archive, as its page gives it."""

SHAPE = 3, 32, 32
PATCH = 8
SIZES = {"train": 50_000, "test": 10_000}
_BATCHES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
_FEATURES = 3 * 32 * 32
_FORM = "uint8 arrays train and test, each (N, 3, 32, 32)"


def read(path: str | os.PathLike[str] | None = None) -> Source:
    """The 50,000 training and 10,000 test images as bytes, (N, 3072), or those of the .npz file at `path`.

    Without a path, the archive is taken from `cache_folder`, and downloaded to it where it is missing or damaged.

    Raises:
        DataError: the archive cannot be had, or the file does not hold what it should.

    Example:
        >>> some = np.zeros((4, 3, 32, 32), np.uint8)
        >>> np.savez("some.npz", train=some, test=some[:2])
        >>> read("some.npz").subset
        '4 of 50,000 training and 2 of 10,000 test images'
    """
    arrays = _of_archive(_archive()) if path is None else _of_file(Path(os.path.expanduser(path)))
    counts = {key: len(arrays.get(key, ())) for key in SIZES}
    whole = counts == SIZES and "valid" not in arrays
    subset = " and ".join(f"{counts[key]:,} of {size:,} {key}" for key, size in SIZES.items())
    return Source(
        "cifar10",
        arrays,
        "bytes",
        image_shape=SHAPE[1:],
        channels=SHAPE[0],
        patch=PATCH,
        subset=None if whole else f"{subset.replace('train', 'training')} images",
    )


def cache_folder() -> Path:
    """Where the archive is kept: the environment's `FLOWVI_CACHE`, or the user's cache folder."""
    import pooch

    return Path(os.environ.get("FLOWVI_CACHE") or pooch.os_cache("flowvi"))


def _archive() -> Path:
    import pooch  # late: it is needed for this alone

    folder = cache_folder()
    name = URL.rpartition("/")[2]
    try:
        return Path(pooch.retrieve(URL, f"md5:{MD5}", fname=name, path=folder, progressbar=False))
    except Exception as error:  # of requests, urllib3, pooch and the system: a dozen kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"CIFAR-10 cannot be had from {URL} ({reason}): put that archive into {folder} as {name}, or give "
            f"data.path=FILE.npz, a file with {_FORM}"
        ) from error


def _of_archive(archive: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """The images of the archive's batches: records of a label's byte and the bytes of three planes."""
    found: dict[str, npt.NDArray[np.uint8]] = {}
    try:
        with tarfile.open(archive) as members:
            content = {Path(member.name).name: member for member in members if member.isfile()}
            for key, names in _BATCHES.items():
                files = (members.extractfile(content[name]) for name in names)
                records = b"".join(file.read() for file in files if file is not None)
                found[key] = np.frombuffer(records, np.uint8).reshape(-1, 1 + _FEATURES)[:, 1:].copy()
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError) as error:
        raise DataError(f"{archive} does not hold CIFAR-10's binary batches ({error}): remove it") from error
    return found


def _of_file(file: Path) -> dict[str, npt.NDArray[np.uint8]]:
    found = open_arrays(file)
    if "train" not in found or "test" not in found:
        raise DataError(f"{file} holds the array {', '.join(found)} alone: CIFAR-10 takes {_FORM}")
    return {key: _checked(values, f"{file}, array {key!r}") for key, values in found.items()}


def _checked(values: npt.NDArray[Any], where: str) -> npt.NDArray[np.uint8]:
    if values.dtype != np.uint8 or values.shape[1:] != SHAPE or not len(values):
        raise DataError(f"{where} is {values.dtype} of the shape {values.shape}: CIFAR-10 takes {_FORM}")
    return values.reshape(len(values), _FEATURES)
