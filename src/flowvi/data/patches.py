"""Square patches of colour images, their bytes made continuous: for densities instead of probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flowvi.data.dataset import Dataset, Images
from flowvi.data.source import Array, Source
from flowvi.data.streams import stream

__all__ = ["SQUEEZE", "Patches", "patched"]

SQUEEZE = 1e-4
"""ε: values lie in (ε, 1 − ε), as in Rezende & Mohamed 2015, Section 6.2."""

_SPLITS = ("train", "valid", "test")  # numbered by place, as streams


@dataclass(frozen=True, eq=False)
class Patches:
    """Images on one device, (N, channels, height, width) bytes, of each of which a batch takes a patch at random.

    A patch is `side` pixels wide and high. Its bytes v become x = ε + (1 − 2ε)·(v + u)/256 with u uniform in [0, 1)
    and ε = `SQUEEZE` = 1e-4: dequantised, so that a density on 8-bit data means something, and squeezed into
    (ε, 1 − ε), where its logit is finite. Place and noise are fresh at each `batch`.

    Example:
        >>> images = Patches(torch.zeros(5, 3, 32, 32, dtype=torch.uint8), side=8)
        >>> x = images.batch(torch.tensor([1, 4]))
        >>> x.shape, bool((x < 0.005).all())
        (torch.Size([2, 192]), True)
    """

    pixels: Tensor
    side: int

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A patch of each image of `rows`, continuous, float32, on the images' device.

        Args:
            rows: integers in [0, N), (n,), on any device.
            generator: source of places and noise, on the images' device; None: torch's global generator.

        Returns:
            Values in (ε, 1 − ε), (n, channels·side²), plane after plane.
        """
        device = self.pixels.device
        chosen = self.pixels.index_select(0, rows.to(device))
        top, left = (
            torch.randint(0, size - self.side + 1, rows.shape, generator=generator, device=device)
            for size in self.pixels.shape[2:]
        )
        bytes_ = crop(chosen, top, left, self.side)
        return dequantise(bytes_, torch.rand(bytes_.shape, generator=generator, device=device))


def crop(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """The patches of (n, channels, height, width) images at the places (n,) and (n,): (n, channels·side²)."""
    steps = torch.arange(side, device=images.device)
    which, plane = (torch.arange(size, device=images.device) for size in images.shape[:2])
    rows, columns = top[:, None] + steps, left[:, None] + steps
    return images[
        which[:, None, None, None], plane[:, None, None], rows[:, None, :, None], columns[:, None, None]
    ].flatten(1)


def dequantise(bytes_: Tensor, noise: Tensor) -> Tensor:
    """ε + (1 − 2ε)·(v + u)/256, for bytes v and noise u in [0, 1) of one shape, of the noise's type."""
    return SQUEEZE + (1 - 2 * SQUEEZE) * (bytes_ + noise) / 256


def patched(source: Source, arrays: Mapping[str, Array], seed: int, device: torch.device | str) -> Dataset:
    """The data set of a source that has a `patch`, its splits' images given as `arrays`.

    Of each validation and each test image one patch is taken, its place and its noise from `seed` alone.
    """
    assert source.patch is not None and source.image_shape is not None
    side, shape = source.patch, (source.channels, *source.image_shape)
    images = {split: torch.from_numpy(rows).view(-1, *shape) for split, rows in arrays.items()}
    fixed = {
        split: Images(_fixed(images[split], side, seed, split).to(device), "continuous")
        for split in images
        if split != "train"
    }
    return Dataset(
        name=source.name,
        train=Patches(images["train"].to(device), side),
        valid=fixed.get("valid"),
        test=fixed["test"],
        binarisation="none",
        seed=seed,
        features=source.channels * side**2,
        image_shape=(side, side),
        mean=torch.from_numpy(_mean(arrays["train"], source)).to(device),
        channels=source.channels,
        subset=source.subset,
    )


def _fixed(images: Tensor, side: int, seed: int, split: str) -> Tensor:
    """One patch of each image, (N, features), float32, the same at every call."""
    random = stream(seed, "patch", _SPLITS.index(split))
    count, channels, high, wide = images.shape
    top, left = (torch.from_numpy(random.randint(0, size - side + 1, count, np.int64)) for size in (high, wide))
    noise = torch.from_numpy(random.random_sample((count, channels * side**2)))
    return dequantise(crop(images, top, left, side), noise).float()


def _mean(rows: Array, source: Source) -> npt.NDArray[np.float32]:
    """The mean of each plane at each of a patch's pixels, (features,): a patch may lie anywhere."""
    assert source.patch is not None
    planes = rows.reshape(len(rows), source.channels, -1).mean(axis=(0, 2), dtype=np.float64)
    mean: npt.NDArray[np.float32] = ((planes + 0.5) / 256).repeat(source.patch**2).astype(np.float32)
    return mean
