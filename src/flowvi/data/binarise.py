"""Grey levels to binary images: a Bernoulli sample of a recorded stream, or a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from flowvi.data.dataset import Levels
    from flowvi.data.source import Array

__all__ = ["bernoulli", "threshold"]

_ROWS = 1000  # drawn at a time. Part of the definition of the sample: another number gives other images.


def bernoulli(values: Array, levels: Levels, random: np.random.RandomState) -> npt.NDArray[np.uint8]:
    """One Bernoulli sample of `values` (N, features) as probabilities; binary values are their own sample.

    A byte is drawn exactly with probability byte/255: a uniform integer of 0 to 254 lies below it.

    Example:
        >>> grey = np.array([[0, 255]], np.uint8)
        >>> bernoulli(grey, "bytes", np.random.RandomState(0)).tolist()
        [[0, 1]]
    """
    if levels == "binary":
        return values.astype(np.uint8, copy=False)
    bits = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), _ROWS):
        part, out = values[first : first + _ROWS], bits[first : first + _ROWS]
        if levels == "bytes":
            np.less(random.randint(0, 255, size=part.shape, dtype=np.uint8), part, out=out)
        else:
            np.less(random.random_sample(part.shape), part, out=out)
    return bits


def threshold(values: Array, levels: Levels) -> npt.NDArray[np.uint8]:
    """1 where a pixel lies above one half, else 0; binary values stay as they are.

    Example:
        >>> threshold(np.array([[0, 127, 128]], np.uint8), "bytes").tolist()
        [[0, 0, 1]]
    """
    if levels == "binary":
        return values.astype(np.uint8, copy=False)
    return (values > (127 if levels == "bytes" else 0.5)).astype(np.uint8)  # 127/255 < 1/2 < 128/255
