"""What a trained model makes of images: test images, their reconstructions, and samples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowvi.data import Dataset, epoch_order
from flowvi.experiments.assembly import load_data
from flowvi.experiments.load import load
from flowvi.experiments.run import Run
from flowvi.models import DLGM

__all__ = ["Pictures", "pictures", "pictures_of"]


class Pictures(NamedTuple):
    """Pixels in [0, 1], a row for each image."""

    images: Tensor
    reconstructions: Tensor
    samples: Tensor


def pictures_of(run: Run, seed: int, *, images: int, samples: int) -> tuple[Pictures, Dataset]:
    """The pictures of a finished run, and its data; leaves the global random state as it was.

    Raises:
        DataError: the data cannot be read.
        RunError: the run is not finished.
        CheckpointError: its weights are missing or damaged.
    """
    with torch.random.fork_rng([]):
        model = load(run)
        model.precision = "32"
        dataset = load_data(run.config, torch.device("cpu"))
        return pictures(model, dataset, seed, images=images, samples=samples), dataset


@torch.no_grad()
def pictures(model: DLGM, dataset: Dataset, seed: int, *, images: int, samples: int) -> Pictures:
    """A random choice of test images, the mean of p(x|z) for one z ~ q(z|x) of each, and that of samples z ~ p(z).

    The same model, data and seed give the same pictures. Sets the global random state.
    """
    torch.manual_seed(seed)
    rows = epoch_order(len(dataset.test), seed, 0)[:images]
    x = dataset.test.batch(rows)
    z, _ = model.posterior(x).rsample_and_log_prob()
    return Pictures(x, model.mean(z), model.mean(model.sample_prior(samples)))
