"""KL(q‖p), ln Z and the masses of regions by quadrature on a square: no sampling error, and a check of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["HALF_WIDTH", "Integrals", "integrate", "midpoints", "stable"]

HALF_WIDTH = 6.0  # of the square: exp(−½(2/0.1)²) of a confined target's density is left at its sides
TOLERANCE = 2e-4  # nats, and mass
COARSEST, FINEST = 180, 1440  # multiples of 6: the regions' straight sides are sides of cells
_CHUNK = 1 << 15

LogDensity = Callable[[Tensor], Tensor]
Region = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Integrals:
    """What a grid of midpoints says of q beside p = p̃/Z.

    Attributes:
        kl: ∫ q (ln q − ln p), in nats, over the square.
        ln_z: ln ∫ p̃, in nats.
        mass: ∫ q; what 1 lacks is outside.
        masses: ∫ q over each region.
        true_masses: ∫ p over each region.
        sides: cells along a side of the grid.
    """

    kl: float
    ln_z: float
    mass: float
    masses: Mapping[str, float]
    true_masses: Mapping[str, float]
    sides: int

    def far_from(self, other: Integrals) -> float:
        """The largest difference of the two in KL, ln Z and mass."""
        return max(abs(self.kl - other.kl), abs(self.ln_z - other.ln_z), abs(self.mass - other.mass))


def midpoints(sides: int, half_width: float = HALF_WIDTH) -> Tensor:
    """The centres of sides × sides equal cells of the square [−half_width, half_width]², (sides², 2), in float64."""
    line = half_width * ((2 * torch.arange(sides, dtype=torch.float64) + 1) / sides - 1)
    return torch.cartesian_prod(line, line)


@torch.no_grad()
def integrate(log_q: LogDensity, log_p: LogDensity, regions: Mapping[str, Region], sides: int) -> Integrals:
    """The midpoint rule, whose error falls faster than any power of the cells' size for smooth, peaked functions.

    Args:
        log_q: ln q, (N, 2) -> (N,) in float64, in nats; normalised on ℝ².
        log_p: ln p̃, likewise; of any normalisation.
        regions: by name, (N, 2) -> (N,) of bool.
        sides: cells along each side of the square.
    """
    z = midpoints(sides)
    log_cell = 2 * math.log(2 * HALF_WIDTH / sides)
    target, flow = ((torch.cat([log(part) for part in z.split(_CHUNK)]) + log_cell) for log in (log_p, log_q))
    ln_z = target.logsumexp(0)
    p, q = (target - ln_z).exp(), flow.exp()
    # where exp has underflowed, the summand is 0, whatever the logarithms are
    kl = torch.where(q > 0, q * (flow - target + ln_z), 0.0).sum()
    inside = {name: region(z) for name, region in regions.items()}
    return Integrals(
        kl.item(),
        ln_z.item(),
        q.sum().item(),
        {name: q[where].sum().item() for name, where in inside.items()},
        {name: p[where].sum().item() for name, where in inside.items()},
        sides,
    )


def stable(
    log_q: LogDensity, log_p: LogDensity, regions: Mapping[str, Region], tolerance: float = TOLERANCE
) -> tuple[Integrals, float]:
    """`integrate` on grids twice as fine each time, until two agree.

    Returns:
        The finer of the last two, and how far it is from the coarser; above `tolerance` where even the finest of
        grids was too coarse.

    Example:
        >>> from torch.distributions import MultivariateNormal
        >>> eye = torch.eye(2, dtype=torch.float64)
        >>> q, p = (MultivariateNormal(mean + 0 * eye[0], eye / 4) for mean in (0.0, 0.5))
        >>> found, error = stable(q.log_prob, p.log_prob, {})
        >>> round(found.kl, 6), round(abs(found.ln_z), 6)  # ½‖0.5, 0.5‖²/0.25
        (1.0, 0.0)
    """
    found = integrate(log_q, log_p, regions, COARSEST)
    while True:
        finer = integrate(log_q, log_p, regions, 2 * found.sides)
        change, found = finer.far_from(found), finer
        if change <= tolerance or found.sides >= FINEST:
            return found, change
