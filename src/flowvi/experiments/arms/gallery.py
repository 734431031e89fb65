"""Pictures of a comparison's models, in `NAME-gallery.npz`: the same test images for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowvi.errors import RunError
from flowvi.experiments.arms.arm import Arm
from flowvi.experiments.arrays import read_arrays
from flowvi.experiments.run import atomic_write
from flowvi.experiments.sweeps.grid import Job
from flowvi.experiments.turns import in_turn

__all__ = ["IMAGES", "SAMPLES", "Shown", "keep", "read"]

IMAGES = SAMPLES = 8
_AGAIN = "remove it, and it is made again"
SEED = 0  # of the choice of images, and of z

Pixels = npt.NDArray[np.uint8]  # (n, features)


class Shown(NamedTuple):
    """What a model made: grey levels from 0 to 255."""

    images: Pixels
    reconstructions: Pixels
    samples: Pixels
    config: npt.NDArray[np.str_]  # its hash

    @property
    def square(self) -> bool:
        """Whether an image is one: other data cannot be drawn."""
        pixels: int = self.images.shape[1]
        return math.isqrt(pixels) ** 2 == pixels


def keep(found: Sequence[tuple[Arm, Job]], folder: Path, name: str) -> None:
    """Put pictures of each arm's first finished job on file; an arm that has some of the same config keeps them.

    Raises:
        DataError: the data cannot be read.
        RunError: a file cannot be read or written.
        CheckpointError: a run's weights are missing or damaged.
    """
    from flowvi.experiments.pictures import pictures_of

    before, new = read(folder, name), dict[str, Shown]()
    for arm, job in found:
        config = job.run.config.hash()
        if job.run.finished and (arm.name not in before or str(before[arm.name].config) != config):
            drawn, _ = pictures_of(job.run, SEED, images=IMAGES, samples=SAMPLES)
            images, reconstructions, kept = ((pixels * 255).round().byte().numpy() for pixels in drawn)
            new[arm.name] = Shown(images, reconstructions, kept, np.array(config))
    if new:
        with in_turn(_file(folder, name)):  # others may have drawn some in the meantime
            made = sorted({**read(folder, name), **new}.items())
            arrays = {f"{arm}/{key}": getattr(shown, key) for arm, shown in made for key in Shown._fields}
            with atomic_write(_file(folder, name)) as file:
                np.savez_compressed(file, **arrays)


def read(folder: Path, name: str) -> Mapping[str, Shown]:
    """The pictures on file, by arm.

    Raises:
        RunError: the file cannot be read.
    """
    path = _file(folder, name)
    if not path.exists():
        return {}
    found = read_arrays(path, _AGAIN)
    arms = dict.fromkeys(key.rpartition("/")[0] for key in found)
    try:
        return {arm: Shown(*(found[f"{arm}/{key}"] for key in Shown._fields)) for arm in arms}
    except KeyError as error:
        raise RunError(f"{path} lacks {error}: {_AGAIN}") from error


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}-gallery.npz"
