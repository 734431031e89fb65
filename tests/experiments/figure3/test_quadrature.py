"""The quadrature against integrals known in closed form, and against itself on finer grids."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from flowvi.experiments.figure3.energies import ENERGIES
from flowvi.experiments.figure3.quadrature import integrate, midpoints, stable


def gaussian(mean: tuple[float, float], covariance: list[list[float]]) -> MultivariateNormal:
    return MultivariateNormal(torch.tensor(mean).double(), torch.tensor(covariance).double())


def right(z: Tensor) -> Tensor:
    return z[..., 0] > 0


def test_the_kl_of_gaussians() -> None:
    q, p = gaussian((0.5, -0.3), [[0.5, 0.2], [0.2, 0.4]]), gaussian((0.0, 0.2), [[0.8, -0.1], [-0.1, 0.6]])
    found, change = stable(q.log_prob, lambda z: p.log_prob(z) + 3.0, {"right": right})
    assert found.kl == pytest.approx(kl_divergence(q, p).item(), abs=1e-9)
    assert found.ln_z == pytest.approx(3.0, abs=1e-9)
    assert found.mass == pytest.approx(1.0, abs=1e-9)
    assert found.true_masses["right"] == pytest.approx(0.5, abs=1e-9)
    assert found.masses["right"] == pytest.approx(0.5 * (1 + math.erf(0.5 / math.sqrt(2 * 0.5))), abs=1e-4)
    assert change < 1e-9


def test_mass_outside() -> None:
    q = gaussian((6.0, 0.0), [[0.1, 0.0], [0.0, 0.1]])
    assert integrate(q.log_prob, q.log_prob, {}, 360).mass == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("name", ENERGIES)
def test_ln_z_is_stable_under_refinement(name: str) -> None:
    energy, q = ENERGIES[name], gaussian((0.0, 0.0), [[1.0, 0.0], [0.0, 1.0]])
    coarse, fine = (integrate(q.log_prob, energy.log_density, energy.regions, sides) for sides in (360, 540))
    assert coarse.ln_z == pytest.approx(fine.ln_z, abs=1e-4)
    assert sum(fine.true_masses.values()) <= 1 + 1e-12


def test_ln_z_of_the_wave() -> None:
    """Inside the box U2's ∫ exp(−U) dz2 = 0.4√(2π) for each z1; the walls add two half Gaussians to its 8."""
    energy, q = ENERGIES["U2"], gaussian((0.0, 0.0), [[1.0, 0.0], [0.0, 1.0]])
    exact = math.log(0.4 * math.sqrt(2 * math.pi) * (8 + 0.1 * math.sqrt(2 * math.pi)))
    assert integrate(q.log_prob, energy.log_density, {}, 540).ln_z == pytest.approx(exact, abs=1e-5)


def test_a_ridge_too_thin_for_the_coarse_grid_is_refined() -> None:
    q = gaussian((0.01, 0.02), [[0.02**2, 0.0], [0.0, 1.0]])
    found, change = stable(q.log_prob, gaussian((0.0, 0.0), [[1.0, 0.0], [0.0, 1.0]]).log_prob, {})
    assert found.sides > 360
    assert found.mass == pytest.approx(1, abs=1e-6)
    assert change < 2e-4


def test_a_density_that_is_0_far_out_leaves_the_kl_finite() -> None:
    q = gaussian((0.0, 0.0), [[1e-2, 0.0], [0.0, 1e-2]])
    found = integrate(q.log_prob, lambda z: torch.where(right(z - 5), -torch.inf, q.log_prob(z)), {}, 360)
    assert found.kl == pytest.approx(0.0, abs=1e-9)


def test_midpoints_are_inside_and_symmetric() -> None:
    z = midpoints(6, 3.0)
    assert z.shape == (36, 2)
    assert z[0].tolist() == [-2.5, -2.5]
    assert torch.allclose(z, -z.flip(0))
