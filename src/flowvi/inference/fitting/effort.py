"""How much work `fit` does: `fast`, `default` and `thorough`, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["EFFORTS", "Effort"]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The numbers of one effort.

    Example:
        >>> EFFORTS["fast"].restarts < EFFORTS["thorough"].restarts
        True
    """

    restarts: int
    """Gaussian fits, each from a start of its own."""
    flows: int
    """Flow fits, from the best of these and from the broadest."""
    samples: int
    """Points for one step: at least so many, and four for each dimension up to four times so many."""
    block: int
    """Steps between two looks at the smoothed ELBO."""
    blocks: int
    """The most of them for one stage; a stage that needs more is not converged."""
    races: int
    """Steps of each race for the step size."""
    tolerance: float
    """Nats: a block that gains less than its error and this has not improved."""
    length: int
    """K of the flow stage."""
    draws: int
    """Draws for each ELBO."""
    evidence: int
    """Draws for the evidence."""


EFFORTS: Mapping[str, Effort] = MappingProxyType(
    {
        "fast": Effort(
            restarts=4,
            flows=1,
            samples=64,
            block=50,
            blocks=24,
            races=30,
            tolerance=0.01,
            length=6,
            draws=4_000,
            evidence=20_000,
        ),
        "default": Effort(
            restarts=8,
            flows=2,
            samples=128,
            block=100,
            blocks=50,
            races=50,
            tolerance=0.003,
            length=8,
            draws=10_000,
            evidence=100_000,
        ),
        "thorough": Effort(
            restarts=16,
            flows=4,
            samples=256,
            block=200,
            blocks=120,
            races=100,
            tolerance=0.001,
            length=12,
            draws=40_000,
            evidence=400_000,
        ),
    }
)
"""The efforts by name. On 2 cores `fast` takes seconds at D ≤ 10, `default` up to two minutes."""
