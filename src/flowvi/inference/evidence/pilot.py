"""Step sizes for annealed importance sampling, found on a pilot run and then frozen.

A step size that follows the chain's own past acceptances makes the chain no longer Markov, and ln Ẑ no longer a strict
bound; Wu et al. (2017, arXiv:1611.04273) do so and accept it. Here other chains, thrown away afterwards, set the
steps: given these, every transition leaves its density as it is, and E[Ẑ] = Z exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowvi.inference.evidence.hmc import Path, transition

__all__ = ["Steps", "tune"]

CHAINS = 16  # of the pilot: enough for a scale of each dimension
WARM = 20  # transitions before the first distribution, where the step size is searched fast
GAIN = 0.5  # of ln ε for each unit of acceptance
FORGET = 0.2  # of the running variance at each distribution


@dataclass(frozen=True)
class Steps:
    """ln ε at evenly spaced places of the schedule, (places, batch…, D), interpolated linearly in between."""

    log_steps: Tensor

    def at(self, share: float) -> Tensor:
        """ε at a share, 0 to 1, of the schedule: (batch…, D)."""
        place = share * (len(self.log_steps) - 1)
        low = min(int(place), len(self.log_steps) - 2)
        return torch.lerp(self.log_steps[low], self.log_steps[low + 1], place - low).exp()

    @classmethod
    def constant(cls, step: float, like: Tensor) -> Steps:
        """The same ε everywhere, for states `like` (chains, batch…, D)."""
        return cls(torch.full_like(like[:1], math.log(step)).expand(2, *like.shape[1:]))


def tune(
    path: Path,
    draw: Callable[[int], Tensor],
    schedule: Callable[[int], list[float]],
    places: int,
    leapfrog: int,
    acceptance: float,
) -> Steps:
    """Anneal 16 chains through `places` distributions, one transition each, and note what steps they came to.

    ε is a factor for each datum times a scale for each of its dimensions. The factor follows
    ln ε += ½·(mean acceptance of the chains − target), a stochastic approximation (Robbins & Monro 1951); the scale is
    the chains' standard deviation, averaged over about the last five distributions.

    Args:
        path: the densities.
        draw: n -> n draws of the initial distribution, (n, batch…, D).
        schedule: n -> β_0 = 0, …, β_n = 1.
        places: n.
        leapfrog: steps of a trajectory.
        acceptance: the target.
    """
    point = path.at(draw(CHAINS))
    variance = draw(4 * CHAINS).double().var(0)
    log_factor = torch.full_like(variance[..., :1], -0.25 * math.log(variance.shape[-1]))
    betas = schedule(places)
    notes = []
    for i in range(-WARM, places):
        log_step = log_factor + 0.5 * variance.clamp(min=torch.finfo(torch.float64).tiny).log()
        point, probability = transition(path, point, betas[max(i, 1)], log_step.exp().to(point.z.dtype), leapfrog)
        if i >= 0:
            notes.append(log_step)
            variance = (1 - FORGET) * variance + FORGET * point.z.double().var(0)
        gain = GAIN if i >= 0 else 2 * GAIN
        log_factor = log_factor + gain * (probability.mean(0)[..., None] - acceptance)
    return Steps(torch.stack([*notes, notes[-1]]).to(point.z.dtype))
