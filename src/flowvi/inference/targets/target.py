"""What a target is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Generator, Tensor

from flowvi.inference.supports import Support

__all__ = ["Difficulty", "Mode", "Target"]


class Difficulty(StrEnum):
    """A kind of trouble; each occurs among the targets for calibration and among those held out.

    Example:
        >>> Difficulty("heavy").name
        'HEAVY'
    """

    DIMENSION = "dimension"
    """D of at least 10."""
    SCALE = "scale"
    """Directions whose scales differ by a factor of at least 10."""
    CURVED = "curved"
    """Mass along a curve, or of a width that depends on the place."""
    HEAVY = "heavy"
    """Tails that fall off as a power."""
    LIGHT = "light"
    """Tails that fall off faster than a Gaussian's."""
    SKEWED = "skewed"
    MODES = "modes"
    """Several modes, with little or much between them."""
    BOUNDED = "bounded"
    """Parameters on a support other than the reals."""
    JUMP = "jump"
    """A density that is not continuous."""
    MINUS_INF = "minus_inf"
    """−inf where the parameters may go."""
    NAN = "nan"
    """NaN where the parameters may go."""
    IMPROPER = "improper"
    """An integral that is infinite."""


@dataclass(frozen=True)
class Mode:
    """One of several modes: the points that belong to it, and its share of the mass.

    Example:
        >>> right = Mode(contains=lambda z: z[:, 0] > 0, mass=0.5)
        >>> right.contains(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        tensor([ True, False])
    """

    contains: Callable[[Tensor], Tensor]
    """Points (n, D) -> (n,), bool. The regions of a target's modes divide its space."""
    mass: float
    """The exact integral of the normalised density over the region."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """An unnormalised log density whose answers are known.

    Its points are (n, D) tensors, or where it has `supports` dicts of (n, *shape) tensors by parameter. A density
    is of the supports' base measures, and −inf outside them.

    Example:
        >>> from flowvi.inference.targets import TARGETS
        >>> target = TARGETS["funnel_2"]
        >>> target.dim, target.log_z
        (2, 1.3)
        >>> draws = target.sample(5, torch.Generator().manual_seed(0))
        >>> target.log_density(draws).shape
        torch.Size([5])
    """

    name: str
    about: str
    """What it is, and where it is from."""
    dim: int
    """D, the number of unconstrained reals."""
    log_density: Callable[[Any], Tensor]
    """Points -> (n,), in nats, of the points' dtype: finite or −inf, or NaN where `undefined` says so."""
    log_z: float
    """ln of its integral over the parameters' own space, in nats; inf where it is improper."""
    truth: str
    """How `log_z` and the draws are known."""
    sample: Callable[[int, Generator | None], Any] | None
    """Independent draws, n points of float64; None where it is improper."""
    log_z_se: float = 0.0
    """The standard error of `log_z`, in nats: 0 where it is exact to rounding."""
    supports: Mapping[str, Support] | None = None
    """The support of each parameter, or None for a plain vector."""
    modes: Mapping[str, Mode] = field(default_factory=dict)
    """Where there are several: the modes by name."""
    undefined: Callable[[Tensor], Tensor] | None = None
    """Points (n, D) -> (n,), bool: where the log density is NaN on purpose."""
    difficulty: frozenset[Difficulty] = frozenset()
    held_out: bool = False
    """Whether no threshold may be chosen by it."""

    @property
    def proper(self) -> bool:
        """Whether its integral is finite."""
        return self.log_z < torch.inf
