"""Random streams of the data room: each a pure function of a seed and its purpose, with no state to save.

All come from NumPy's `RandomState`, whose streams are frozen (NEP 19), so that a seed means the same images
and the same order under every later version of NumPy and torch, and on every device.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from flowvi.errors import ConfigError

__all__ = ["epoch_order", "stream"]

_PURPOSES = ("sample", "split", "epoch", "patch")  # numbered by place: append only


def stream(seed: int, purpose: Literal["sample", "split", "epoch", "patch"], index: int = 0) -> np.random.RandomState:
    """The stream of `seed` for one purpose; those of other seeds, purposes or indices are independent of it.

    Raises:
        ConfigError: a seed outside [0, 2**64).

    Example:
        >>> stream(2015, "split").permutation(5).tolist() == stream(2015, "split").permutation(5).tolist()
        True
    """
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed {seed} is out of range: allowed are whole numbers from 0 to 2**64 - 1")
    return np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32, _PURPOSES.index(purpose), index])


def epoch_order(images: int, seed: int, epoch: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """The order in which the epoch numbered `epoch` takes its images: a permutation of 0 to `images` - 1.

    It depends on the three numbers alone, so a run resumes inside an epoch without any saved state.

    Returns:
        int64, (images,), on `device`.

    Raises:
        ConfigError: a seed outside [0, 2**64).

    Example:
        >>> epoch_order(images=5, seed=0, epoch=0).sort().values
        tensor([0, 1, 2, 3, 4])
    """
    order = stream(seed, "epoch", epoch).permutation(images).astype(np.int64, copy=False)
    return torch.from_numpy(order).to(device)
