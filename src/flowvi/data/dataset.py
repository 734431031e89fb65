"""What the data room hands out: images on a device, and the splits of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from flowvi.data.patches import Patches

__all__ = ["Dataset", "Images", "Levels"]

Levels = Literal["binary", "bytes", "unit", "continuous"]
"""What a stored value means: `binary` 0 or 1, `bytes` a grey level of 0 to 255, `unit` one in [0, 1], `continuous` a
value that is modelled as it is."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images on one device, (N, features), as bytes (float32 for `unit` and `continuous` levels).

    Grey levels are the probabilities of a fresh Bernoulli sample at each `batch`; binary and continuous images stay
    as they are.

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
        """The images of `rows`, binary or continuous, float32, on their device.

        Args:
            rows: integers in [0, N), (n,), on any device.
            generator: source of the Bernoulli sample, on the images' device; None: torch's global generator.
                Binary and continuous images draw nothing from it.

        Returns:
            0 and 1 (of continuous images their values) as float32, (n, features).
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
        train: training images; grey levels if `dynamic`, else binary; or images of which patches are taken.
        valid: validation images, always fixed, and binary unless patches; None where nothing is held out.
        test: test images, likewise; under `dynamic` the Bernoulli sample of `fixed`.
        binarisation: `fixed`, `dynamic`, `threshold`, `none` of patches, or `file:<stem>` where a user's data came
            binary.
        seed: seed of the Bernoulli sample and of the split; with `binarisation` and the sizes of the splits
            it reproduces this data set.
        features: pixels of an image.
        image_shape: (height, width) for drawing; None if not known.
        mean: mean of the training pixels as probabilities, (features,), float32; 0 and 1 do occur.
        channels: colour planes of an image, one after another among its features.
        subset: how many images there are, in words, where they are not all of the data set's.

    Example:
        >>> from flowvi.data import load
        >>> dataset = load("mnist", binarisation="threshold", validation=0)
        >>> len(dataset.train), len(dataset.test), dataset.valid
        (60000, 10000, None)
        >>> dataset.features, dataset.image_shape
        (784, (28, 28))
    """

    name: str
    train: Images | Patches
    valid: Images | None
    test: Images
    binarisation: str
    seed: int
    features: int
    image_shape: tuple[int, int] | None
    mean: torch.Tensor
    channels: int = 1
    subset: str | None = None
