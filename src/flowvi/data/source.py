"""What a reader of a data set gives: arrays as they are stored, before binarisation and split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from flowvi.data.dataset import Levels

__all__ = ["KEYS", "Array", "Source"]

Array = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

KEYS = ("train", "valid", "test", "all")
"""The arrays a source may hold; their places number the streams of the Bernoulli sample, so append only."""


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as its files hold it.

    `arrays` has `train`, `test` and perhaps `valid`, or `all` alone; each (N, features) and writable, uint8
    for `binary` and `bytes` levels, float32 for `unit`. `label` is what a result says instead of a
    binarisation where the files decide it. `patch` is the side of the square patches that are taken of the images,
    whose rows are then bytes of `channels` planes of `image_shape` each, and are not binarised. `subset` says in words
    how many images there are, where they are not all of the data set's.

    Example:
        >>> Source("mine", {"all": np.zeros((10, 4), np.uint8)}, "binary").features
        4
    """

    name: str
    arrays: Mapping[str, Array]
    levels: Levels
    image_shape: tuple[int, int] | None = None
    label: str | None = None
    channels: int = 1
    patch: int | None = None
    subset: str | None = None

    @property
    def features(self) -> int:
        """Values of a row."""
        some: npt.NDArray[Any] = next(iter(self.arrays.values()))
        return int(some.shape[1])
