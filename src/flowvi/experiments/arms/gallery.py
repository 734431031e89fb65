"""Pictures of a comparison's models, in `NAME-gallery.npz`: the same test images for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowvi.errors import RunError
from flowvi.experiments.arms.arm import Arm
from flowvi.experiments.run import atomic_write
from flowvi.experiments.sweeps.grid import Job

__all__ = ["IMAGES", "SAMPLES", "Shown", "keep", "read"]

IMAGES = SAMPLES = 8
SEED = 0  # of the choice of images, and of z

Pixels = npt.NDArray[np.uint8]  # (n, features)


class Shown(NamedTuple):
    """What a model made: grey levels from 0 to 255."""

    images: Pixels
    reconstructions: Pixels
    samples: Pixels


def keep(found: Sequence[tuple[Arm, Job]], folder: Path, name: str) -> None:
    """Put pictures of each arm's first finished job on file, beside those that are there.

    Raises:
        RunError: the file cannot be read or written.
    """
    from flowvi.experiments.pictures import pictures_of

    first: dict[str, Job] = {}
    for arm, job in found:
        if job.run.finished:
            first.setdefault(arm.name, job)
    made = dict(read(folder, name))
    for arm_name, job in first.items():
        drawn, _ = pictures_of(job.run, SEED, images=IMAGES, samples=SAMPLES)
        made[arm_name] = Shown(*((pixels * 255).round().byte().numpy() for pixels in drawn))
    if made:
        arrays = {f"{arm}/{key}": getattr(shown, key) for arm, shown in sorted(made.items()) for key in Shown._fields}
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
    try:
        with np.load(path) as file:
            arms = dict.fromkeys(key.rpartition("/")[0] for key in file.files)
            return {arm: Shown(*(file[f"{arm}/{key}"] for key in Shown._fields)) for arm in arms}
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"cannot read {path} ({error}): remove it, and it is made again") from error


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}-gallery.npz"
