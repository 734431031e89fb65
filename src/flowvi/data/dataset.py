"""What the data room hands out: images on a device, and the splits of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["Dataset", "Images", "Levels"]

Levels = Literal["binary", "bytes", "unit"]
"""What a stored value means: `binary` 0 or 1, `bytes` a grey level of 0 to 255, `unit` one in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images on one device, (N, features), as bytes (float32 for `unit` levels).

    Grey levels are the probabilities of a fresh Bernoulli sample at each `batch`; binary images stay as they
    are.

    Example:
        >>> pixels = torch.tensor([[0, 255], [255, 0], [255, 255]], dtype=torch.uint8)
        >>> Images(pixels, "bytes").batch(torch.tensor([1, 2]))
        tensor([[1., 0.],
                [1., 1.]])
    """

    pixels: torch.Tensor
    levels: Levels = "binary"

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def batch(self, rows: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """The images of `rows`, binary, float32, on their device.

        Args:
            rows: integers in [0, N), (n,), on any device.
            generator: source of the Bernoulli sample, on the images' device; None: torch's global generator.
                Binary images draw nothing from it.

        Returns:
            0 and 1 as float32, (n, features).
        """
        chosen = self.pixels.index_select(0, rows.to(self.pixels.device))
        if self.levels == "bytes":
            # A uniform integer of 0 to 254 lies below a byte with probability byte/255.
            chosen = torch.empty_like(chosen).random_(0, 255, generator=generator) < chosen
        elif self.levels == "unit":
            chosen = torch.empty_like(chosen).uniform_(generator=generator) < chosen
        return chosen.to(torch.float32)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The splits of a data set and what a result must say about them.

    Attributes:
        name: `mnist`, or the stem of a user's file.
        train: training images; grey levels if `dynamic`, else binary.
        valid: validation images, always binary and fixed; None where nothing is held out.
        test: test images, always binary and fixed; under `dynamic` the Bernoulli sample of `fixed`.
        binarisation: `fixed`, `dynamic`, `threshold`, or `file:<stem>` where a user's data came binary.
        seed: seed of the Bernoulli sample and of the split; with `binarisation` and the sizes of the splits
            it reproduces this data set.
        features: pixels of an image.
        image_shape: (height, width) for drawing; None if not known.
        mean: mean of the training pixels as probabilities, (features,), float32; 0 and 1 do occur.

    Example:
        >>> from flowvi.data import load
        >>> dataset = load("mnist", binarisation="threshold", validation=0)
        >>> len(dataset.train), len(dataset.test), dataset.valid
        (60000, 10000, None)
        >>> dataset.features, dataset.image_shape
        (784, (28, 28))
    """

    name: str
    train: Images
    valid: Images | None
    test: Images
    binarisation: str
    seed: int
    features: int
    image_shape: tuple[int, int] | None
    mean: torch.Tensor
