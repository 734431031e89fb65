"""A user's own arrays: .npz or .npy files, checked before anything uses them. Nothing in them is unpickled.

A .npz holds `train` and `test`, with `valid` if you like (else `data.validation` rows of `train` are held
out), or one array of any name; that, like a .npy, is split 80/10/10. An array is (N, features), of bools,
integers 0 and 1, or floats in [0, 1]; or, where `packed` gives the number of features, of uint8 rows that
hold eight features a byte, the first in the highest bit.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from flowvi.data.source import Array, Source
from flowvi.errors import DataError

__all__ = ["open_arrays", "read_file"]

_VALUES = "bools, integers 0 and 1, or floats in [0, 1]"
_ROWS = 10_000  # looked at together, to bound the memory of the checks


def read_file(path: str | os.PathLike[str], packed: int | None = None) -> Source:
    """Read and check a user's file; `packed`: features of its bit-packed rows, None: they are not packed.

    Data that hold only 0 and 1 are binary and are labelled `file:<stem>`.

    Raises:
        DataError: names the file, the array, what was found and what is allowed.

    Example:
        >>> np.savez("mine.npz", train=np.eye(4, dtype=bool), test=np.ones((2, 4), bool))
        >>> source = read_file("mine.npz")
        >>> source.label, source.arrays["test"].shape
        ('file:mine', (2, 4))
    """
    file = Path(os.path.expanduser(path))
    found = open_arrays(file)
    arrays: dict[str, Array] = {}
    for key in list(found):
        where = f"{file}, array {key!r}" if file.suffix.lower() == ".npz" else str(file)
        raw = found.pop(key)  # lets a large array go as soon as its checked copy stands
        arrays[key] = _checked(raw, where) if packed is None else _unpacked(raw, packed, where)
    widths = {key: values.shape[1] for key, values in arrays.items()}
    if len(set(widths.values())) > 1:
        listing = ", ".join(f"{key} {width}" for key, width in widths.items())
        raise DataError(f"{file}: the arrays differ in features ({listing}): allowed is one number for all")
    if len(arrays) == 1:
        arrays = {"all": next(iter(arrays.values()))}
    binary = all(values.dtype == np.uint8 for values in arrays.values())
    if binary:
        return Source(file.stem, arrays, "binary", label=f"file:{file.stem}")
    arrays = {key: values.astype(np.float32, copy=False) for key, values in arrays.items()}
    return Source(file.stem, arrays, "unit")


def open_arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a .npz or .npy file, by key, unchecked; `train` and `test` are there unless there is one alone.

    Raises:
        DataError: it cannot be read, or holds other arrays.
    """
    if file.suffix.lower() not in (".npz", ".npy"):
        raise DataError(f"{file}: suffix {file.suffix!r} is not a data file's: allowed are .npz and .npy")
    if not os.path.isfile(file):  # of os.path, since pathlib's raises where a folder may not be searched
        problem = "is not a file" if os.path.exists(file) else "does not exist"
        raise DataError(f"{file} {problem}: data.path must name a .npz or .npy file")
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {file.stem: loaded}
        with loaded:
            keys = _check_keys(file, list(loaded))
            return {key: loaded[key] for key in keys}
    except DataError:
        raise
    except Exception as error:  # NumPy, zipfile and zlib raise a dozen kinds on damaged bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{file} cannot be read: allowed are plain numeric arrays of numpy.savez or numpy.save, nothing "
            f"pickled ({reason})"
        ) from error


def _check_keys(file: Path, keys: list[str]) -> list[str]:
    """The keys in the order of the splits; one array may have any name."""
    if len(keys) == 1 or (set(keys) <= {"train", "valid", "test"} and {"train", "test"} <= set(keys)):
        return sorted(keys, key=("train", "valid", "test").index) if len(keys) > 1 else keys
    raise DataError(
        f"{file} holds the arrays {', '.join(keys) or '(none)'}: allowed are train and test, with or without "
        "valid, or one array alone"
    )


def _check_shape(values: Any, where: str) -> npt.NDArray[Any]:
    """An array of two dimensions with something in it."""
    if not isinstance(values, np.ndarray):
        raise DataError(f"{where} is not an array: save it with numpy.savez")
    if values.ndim != 2:
        count = len(values) if values.ndim else 0
        advice = f" to ({count}, {values.size // count})" if values.ndim > 2 and count else ""
        raise DataError(f"{where} has the shape {values.shape}: allowed is (N, features); reshape it{advice}")
    if not values.size:
        raise DataError(f"{where} is empty, of the shape {values.shape}: allowed is at least one row of one feature")
    return values


def _checked(values: Any, where: str) -> Array:
    """The array as uint8 where it holds only 0 and 1, else as float32 in [0, 1]."""
    values = _check_shape(values, where)
    if values.dtype.kind not in "buif":
        raise DataError(f"{where} is of type {values.dtype}: allowed are {_VALUES}")
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(_non_finite(values, where))
    if low < 0 or high > 1:
        advice = "" if low < 0 else "; divide grey levels of 0 to 255 by 255"
        if values.dtype == np.uint8:
            advice += ", or set data.packed to the number of features if the rows are bit-packed"
        raise DataError(f"{where} has values from {low} to {high}: allowed are {_VALUES}{advice}")
    chunks = (values[first : first + _ROWS] for first in range(0, len(values), _ROWS))
    if values.dtype.kind in "bui" or all(bool(((part == 0) | (part == 1)).all()) for part in chunks):
        return cast(Array, values.astype(np.uint8, order="C"))
    return cast(Array, values.astype(np.float32, order="C"))


def _non_finite(values: npt.NDArray[Any], where: str) -> str:
    count, place = 0, (0, 0)
    for first in range(0, len(values), _ROWS):
        bad = np.argwhere(~np.isfinite(values[first : first + _ROWS]))
        if len(bad) and not count:
            place = (first + int(bad[0, 0]), int(bad[0, 1]))
        count += len(bad)
    return (
        f"{where} has NaN or infinite values, {count} of them, the first at [{place[0]}, {place[1]}]: "
        f"allowed are {_VALUES}"
    )


def _unpacked(values: Any, features: int, where: str) -> npt.NDArray[np.uint8]:
    """The bits of packed rows, (N, features)."""
    values = _check_shape(values, where)
    width = -(-features // 8)
    if values.dtype != np.uint8 or values.shape[1] != width:
        raise DataError(
            f"{where} has rows of {values.shape[1]} {values.dtype}: data.packed={features} allows rows of "
            f"{width} uint8; leave data.packed out if the rows are not bit-packed"
        )
    if np.any(values[:, -1] & (0xFF >> (features - 1) % 8 + 1)):
        raise DataError(
            f"{where} has bits set beyond the {features} features of data.packed={features}: allowed are "
            "zeros there; check the number of features"
        )
    return np.unpackbits(values, axis=1, count=features)
