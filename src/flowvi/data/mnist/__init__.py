"""MNIST, shipped beside this file (see SOURCE.md and LICENSE there), verified whenever it is read."""

from __future__ import annotations

import hashlib
import zlib
from importlib.resources import files
from importlib.resources.abc import Traversable

import numpy as np
import numpy.typing as npt

from flowvi.data.source import Source
from flowvi.errors import DataError

__all__ = ["CHECKSUMS", "read"]

CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
}
"""SHA-256 of each file."""

_HEADER = 16  # bytes of an IDX file before its pixels; the checksum vouches for them


def read(folder: Traversable | None = None) -> Source:
    """The 60,000 training and 10,000 test images as bytes, (N, 784), from the package or from `folder`.

    Raises:
        DataError: a file is missing or is not, byte for byte, the one that was recorded.

    Example:
        >>> read().arrays["test"].shape
        (10000, 784)
    """
    folder = folder or files(__name__)
    arrays = {
        "train": _images(folder, "train-images-idx3-ubyte.gz", 60_000),
        "test": _images(folder, "t10k-images-idx3-ubyte.gz", 10_000),
    }
    return Source("mnist", arrays, "bytes", image_shape=(28, 28))


def _images(folder: Traversable, name: str, count: int) -> npt.NDArray[np.uint8]:
    file = folder / name
    try:
        packed = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): install flowvi again") from error
    found = hashlib.sha256(packed).hexdigest()
    if found != CHECKSUMS[name]:
        raise DataError(f"{file} is damaged (SHA-256 {found}, not {CHECKSUMS[name]}): install flowvi again")
    size = _HEADER + count * 784
    pixels = bytearray(zlib.decompress(packed, wbits=31, bufsize=size))  # 31: gzip; a bytearray is writable
    return np.frombuffer(pixels, np.uint8, offset=_HEADER).reshape(count, 784)
