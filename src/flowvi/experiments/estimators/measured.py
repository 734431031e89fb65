"""What every estimator gives back, and the test images that it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowvi.data import Dataset, epoch_order
from flowvi.errors import ConfigError
from flowvi.experiments.results import mean_and_error

__all__ = ["Measured", "noise", "summary", "test_rows"]


class Measured(NamedTuple):
    """What a test found."""

    figures: dict[str, Any]
    """Keys of the record: `split`, `images`, and what the estimator's entry shows; in nats where it says no other."""
    images: dict[str, Tensor]
    """Values for each image, (images,)."""


def test_rows(dataset: Dataset, images: int | None, usual: int | None = None) -> Tensor:
    """The numbers of the test images to take, (n,), sorted: a random subset, the same for every run of one data seed.

    Args:
        dataset: whose test images.
        images: n; None: `usual`, or all where there are fewer, or where `usual` is None too.
        usual: see `images`.

    Raises:
        ConfigError: more than there are.
    """
    count = len(dataset.test)
    if images is None:
        images = min(usual or count, count)
    if not 1 <= images <= count:
        raise ConfigError(f"images={images}: there are {count} test images, allowed is 1 to {count}")
    if images == count:
        return torch.arange(count)
    return epoch_order(count, dataset.seed, 0)[:images].sort().values


def summary(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean over images of each, and under `<key>_se` its standard error."""
    found: dict[str, float] = {}
    for name, each in values.items():
        found[name], found[f"{name}_se"] = mean_and_error(each)
    return found


@contextmanager
def noise(device: torch.device, seed: int) -> Iterator[None]:
    """Noise from `seed` alone; the global generators are then as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
