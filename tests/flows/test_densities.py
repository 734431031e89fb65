"""Densities integrate to one: adaptive quadrature of exp(log_prob), hence of the inverse, in the plane."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

ROOT = 0.5 * 0.6**0.5  # Gauss-Legendre, three points on (−½, ½)
NODES = torch.cartesian_prod(*[torch.tensor([-ROOT, 0.0, ROOT], dtype=torch.float64)] * 2)
WEIGHTS = torch.cartesian_prod(*[torch.tensor([5, 8, 5], dtype=torch.float64) / 18] * 2).prod(-1)


def integral(log_density: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, tolerance: float = 2e-4) -> float:
    """Over the box from `low` to `high`, by cells split in four until they agree with their quarters."""

    def cells(centres: Tensor, width: Tensor) -> Tensor:
        values = log_density(centres[:, None] + NODES * width).exp()
        return values @ WEIGHTS * width.prod()

    sides = 64
    width = (high - low) / sides
    steps = torch.arange(sides, dtype=torch.float64) + 0.5
    centres = low + torch.cartesian_prod(steps, steps) * width
    coarse, total = cells(centres, width), 0.0
    quarters = torch.cartesian_prod(*[torch.tensor([-0.25, 0.25], dtype=torch.float64)] * 2)
    for _ in range(12):
        split = (centres[:, None] + quarters * width).flatten(0, 1)
        width = width / 2
        fine = cells(split, width)
        change = (fine.view(-1, 4).sum(-1) - coarse).abs()
        keep = change.sort().values.cumsum(0) > tolerance / 4  # all but the cells that agree, taken together
        rough = torch.zeros_like(change, dtype=torch.bool).scatter(0, change.argsort(), keep)
        total += fine.view(-1, 4)[~rough].sum().item()
        centres, coarse = split.view(-1, 4, 2)[rough].flatten(0, 1), fine.view(-1, 4)[rough].flatten()
        if not rough.any():
            return total
    return total + coarse.sum().item()


def box(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Wide enough for all of the mass, by far more than the samples reach."""
    low, high = samples.amin(0), samples.amax(0)
    margin = 0.5 * (high - low)
    return low - margin, high + margin


def test_the_quadrature_itself() -> None:
    q = torch.distributions.MultivariateNormal(torch.zeros(2).double(), torch.tensor([[1, 0.999], [0.999, 1]]).double())
    assert integral(q.log_prob, *box(q.sample((4096,)))) == pytest.approx(1, abs=2e-4)


def test_a_density_integrates_to_one(mapping) -> None:
    with torch.no_grad():
        q = mapping.trained(2, 8)(mapping.given())
        assert integral(q.log_prob, *box(q.sample((20_000,)))) == pytest.approx(1, abs=1e-3)
