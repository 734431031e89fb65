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
    flows: tuple[str, ...]
    """The kind of each flow that is fitted."""
    samples: int
    """Points for one step: at least so many, and four for each dimension up to four times so many."""
    block: int
    """Steps between two looks at the smoothed ELBO."""
    blocks: int
    """Blocks of a flow's fit, before it covers the density; a Gaussian's takes a quarter of them."""
    races: int
    """Steps of each race for the step size; a Gaussian's is a quarter as long."""
    tolerance: float
    """Nats: a fit whose last quarter gains less than this, or than twice its error, has converged."""
    draws: int
    """Draws for each ELBO."""
    evidence: int
    """Draws for the evidence."""
    chains: int
    """Of annealed importance sampling, and of Hamiltonian Monte Carlo from draws."""
    distributions: int
    """Between the posterior and the density, for annealed importance sampling."""


EFFORTS: Mapping[str, Effort] = MappingProxyType(
    {
        "fast": Effort(
            restarts=4,
            flows=("planar",),
            samples=128,
            block=50,
            blocks=20,
            races=60,
            tolerance=0.02,
            draws=10_000,
            evidence=20_000,
            chains=64,
            distributions=25,
        ),
        "default": Effort(
            restarts=8,
            flows=("planar", "realnvp"),
            samples=256,
            block=100,
            blocks=20,
            races=100,
            tolerance=0.02,
            draws=20_000,
            evidence=100_000,
            chains=128,
            distributions=50,
        ),
        "thorough": Effort(
            restarts=16,
            flows=("planar", "realnvp", "planar", "realnvp"),
            samples=512,
            block=200,
            blocks=40,
            races=200,
            tolerance=0.01,
            draws=40_000,
            evidence=400_000,
            chains=256,
            distributions=200,
        ),
    }
)
"""The efforts by name. On 2 cores `fast` takes seconds at D ≤ 10, `default` up to two minutes."""
