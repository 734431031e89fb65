"""Paired differences between two models on the same test images, with what images and seeds leave uncertain.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowvi.errors import RunError
from flowvi.experiments.arms.store import Images

__all__ = ["ENOUGH_SEEDS", "Difference", "difference"]

ENOUGH_SEEDS = 3  # on both sides of a claim

# Student's t, the 97.5 % quantile for 1, 2, … degrees of freedom
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL = 1.960

Values = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Difference:
    """A mean difference, ours minus theirs, in nats: below 0, ours is better.

    Attributes:
        mean: over images and seeds.
        image_error: its standard error from the images, which both sides share.
        seed_error: its standard error from the seeds; NaN where a side has one only.
        seeds: how many our side has, and theirs.
    """

    mean: float
    image_error: float
    seed_error: float
    seeds: tuple[int, int]

    @property
    def enough(self) -> bool:
        """Whether there are seeds enough on both sides for a claim."""
        return min(self.seeds) >= ENOUGH_SEEDS

    @property
    def interval(self) -> tuple[float, float]:
        """95 %: images and seeds as independent sources, the seeds by Student's t of the smaller side; else NaN."""
        freedom = min(self.seeds) - 1
        if freedom < 1:
            return math.nan, math.nan
        t = _T[freedom - 1] if freedom <= len(_T) else _T[-1]
        half = math.hypot(t * self.seed_error, _NORMAL * self.image_error)
        return self.mean - half, self.mean + half


def difference(ours: Sequence[Images], theirs: Sequence[Images], figure: str) -> Difference | None:
    """How much `free_energy` or `nll` differs, image by image; None where a side has no result.

    Where both sides have the same seeds, their differences are paired by seed too.

    Raises:
        RunError: they were tested on other images.
    """
    if not ours or not theirs:
        return None
    if any(not np.array_equal(each.row, ours[0].row) for each in (*ours, *theirs)):
        raise RunError("results were tested on other images than those they are compared with: test both alike")
    a, b = (np.stack([np.asarray(getattr(each, figure), np.float64) for each in side]) for side in (ours, theirs))
    by_image = a.mean(0) - b.mean(0)
    paired = [each.seed for each in ours] == [each.seed for each in theirs]
    seed_error = _error((a - b).mean(1)) if paired else math.hypot(_error(a.mean(1)), _error(b.mean(1)))
    return Difference(float(by_image.mean()), _error(by_image), seed_error, (len(a), len(b)))


def _error(values: Values) -> float:
    """The standard error of the mean; NaN of one value."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
