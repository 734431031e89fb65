"""How a static flow is fitted to an energy on the plane, so that it finds all modes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowvi.errors import NonFiniteError
from flowvi.experiments.figure3.energies import Energy
from flowvi.experiments.figure3.restarts import Restarts
from flowvi.experiments.figure3.scheme import Scheme

__all__ = ["lattice", "train"]

_GOLDEN = (math.sqrt(5) - 1) / 2
_TINY = 1e-12  # the normal quantile of 0 and 1 is infinite


def train(
    kind: str, length: int, energy: Energy, seeds: Sequence[int], scheme: Scheme | None = None, **options: Any
) -> Restarts:
    """Fit one flow from each seed by Adam on the annealed free energy, E[ln q(z) − β ln p̃(z)] (Eq. 20).

    A restart's start and its points depend on its seed alone: it comes out the same whatever others run beside it, to
    rounding.

    Args:
        kind: of flow.
        length: K.
        energy: the target.
        seeds: one for each restart.
        scheme: how; by default as `Scheme` has it.
        options: the flow's own.

    Raises:
        NonFiniteError: a restart whose free energy is no longer finite.

    Example:
        >>> from flowvi.experiments.figure3.energies import ENERGIES
        >>> flows = train("planar", 2, ENERGIES["U2"], seeds=[0, 1], scheme=Scheme(updates=5, batch=16))
        >>> flows.flow(1)().sample((3,)).shape
        torch.Size([3, 2])
    """
    scheme = scheme or Scheme()
    flows = Restarts(kind, length, seeds, **options)
    values = list(flows.parameters.values())
    optimiser = torch.optim.Adam(values, scheme.learning_rate)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for update in range(scheme.updates):
        z, log_q = flows.push(_noise(scheme, generators))
        loss = (log_q - scheme.beta_at(update) * energy.log_density(z)).mean(0)
        optimiser.zero_grad()
        loss.sum().backward()
        _shorten(values, scheme.largest_norm)
        if not loss.isfinite().all():
            raise NonFiniteError(
                f"{kind} K = {length} on {energy.name}: the free energy at update {update} is not finite"
            )
        optimiser.param_groups[0]["lr"] = scheme.rate_at(update)
        optimiser.step()
    return flows


def lattice(count: int) -> Tensor:
    """(i/n, i·φ mod 1), φ the golden ratio's fraction: n points that are spread evenly over the unit square, float64.

    (Niederreiter 1992; shifted at random, as Cranley & Patterson 1976 do it, an unbiased estimate of an integral. For
    variational inference: Buchholz, Wenzel & Mandt 2018, arXiv:1807.01604.)
    """
    i = torch.arange(count, dtype=torch.float64)
    return torch.stack([i / count, i * _GOLDEN % 1], -1)


def _noise(scheme: Scheme, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise, (batch, R, 2), each restart's from its own generator."""
    if not scheme.lattice:
        return torch.stack([torch.randn(scheme.batch, 2, generator=own) for own in generators], 1)
    shifts = torch.stack([torch.rand(2, generator=own, dtype=torch.float64) for own in generators])
    uniform = (lattice(scheme.batch)[:, None] + shifts) % 1
    noise: Tensor = torch.special.ndtri(uniform.clamp(_TINY, 1 - _TINY)).float()
    return noise


def _shorten(values: Sequence[Tensor], largest: float) -> None:
    """Each restart's gradient, over all its parameters, to a norm of at most `largest`."""
    gradients = [value.grad for value in values if value.grad is not None]
    norms = sum((each.flatten(1).square().sum(1) for each in gradients), torch.zeros(())).sqrt()
    factors = (largest / norms).clamp(max=1.0)
    for each in gradients:
        each.mul_(factors.view(-1, *[1] * (each.dim() - 1)))
