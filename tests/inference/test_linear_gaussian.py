"""Free energy and evidence against a linear-Gaussian model whose evidence is known exactly.

Replicates lie along the batch: one datum repeated R times gives R independent estimates and a standard error.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from flowvi.flows import Gaussian, Planar
from flowvi.inference import Evidence, free_energy, importance_sampling

Model = Callable[..., Any]


def estimate(model: Any, x: Tensor, samples: int, rows: int = 200_000) -> Evidence:
    return importance_sampling(lambda z: model.log_joint(x, z), model.posterior(x), samples, rows)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


def wrong(linear_gaussian: Model, **changes: Any) -> Any:
    """A posterior off by half a standard deviation or so, and wider: the weights are bounded."""
    return linear_gaussian(**{"shift": 0.15, "stretch": 1.6, **changes})


def planar(features: int) -> Any:
    torch.manual_seed(5)
    flow = Planar(features=features, length=3, init="normal").double()
    with torch.no_grad():  # wider than the posterior, so that the weights are bounded
        flow.base.location[features:] = 0.3
    return flow


class TestExactPosterior:
    def test_every_weight_is_the_evidence(self, linear_gaussian: Model) -> None:
        model = linear_gaussian()
        x = model.data(6)
        found, truth = estimate(model, x, 50, rows=100), model.log_evidence(x)
        close = {"rtol": 0, "atol": 1e-12}
        torch.testing.assert_close(found.log_evidence, truth, **close)
        torch.testing.assert_close(found.free_energy, -truth, **close)
        torch.testing.assert_close(found.kl, torch.zeros(6).double(), **close)
        torch.testing.assert_close(found.effective_samples, torch.full((6,), 50.0).double(), rtol=1e-12, atol=0)

    @pytest.mark.parametrize("objective", ["elbo", "iwae"])
    @pytest.mark.parametrize("samples", [1, 9])
    def test_free_energy_has_no_variance(self, linear_gaussian: Model, objective: str, samples: int) -> None:
        model = linear_gaussian()
        x = model.data(6)
        terms = free_energy(model, x, samples=samples, objective=objective)
        torch.testing.assert_close(terms.loss, -model.log_evidence(x), rtol=0, atol=1e-12)
        torch.testing.assert_close(terms.value, -model.log_evidence(x), rtol=0, atol=1e-12)

    def test_a_flow_that_is_the_posterior_is_exact_too(self, linear_gaussian: Model) -> None:
        model = linear_gaussian(latents=1, features=1, sigma=0.5)
        x = torch.tensor([[0.8]], dtype=torch.float64)
        exact = model.exact_posterior(x)
        flow = Gaussian(features=1).double()
        with torch.no_grad():
            flow.base.location.copy_(torch.cat([exact.mean[0], exact.variance[0].log() / 2]))
        model.flow = flow
        found = estimate(model, x, 20)
        torch.testing.assert_close(found.log_evidence, model.log_evidence(x), rtol=0, atol=1e-12)
        torch.testing.assert_close(found.kl, torch.zeros(1).double(), rtol=0, atol=1e-12)


class TestWrongPosterior:
    def test_free_energy_is_evidence_and_kl_apart(self, linear_gaussian: Model) -> None:
        model = wrong(linear_gaussian)
        x = model.data(1).expand(5000, -1)
        truth = (model.kl(x) - model.log_evidence(x))[0].item()
        assert model.kl(x)[0] > 0.3
        for values in (estimate(model, x, 10).free_energy, free_energy(model, x, samples=10).value):
            mean, error = mean_and_error(values)
            assert abs(mean - truth) < 4 * error and error < 0.02

    def test_elbo_below_importance_sampling_below_exact_and_converging(self, linear_gaussian: Model) -> None:
        model = wrong(linear_gaussian)
        x = model.data(1)
        truth, kl = model.log_evidence(x).item(), model.kl(x).item()
        bounds = []
        for samples, replicates in ((1, 20_000), (10, 20_000), (100, 5000), (5000, 100)):
            bounds.append(mean_and_error(estimate(model, x.expand(replicates, -1), samples).log_evidence))
        assert abs(bounds[0][0] - (truth - kl)) < 4 * bounds[0][1]  # one sample: the ELBO
        for (low, low_error), (high, high_error) in pairwise(bounds):
            assert low < high + 4 * (low_error**2 + high_error**2) ** 0.5
        assert bounds[0][0] < bounds[1][0] - 0.1 and bounds[1][0] < bounds[2][0] - 0.02  # the first steps are large
        for mean, error in bounds:
            assert mean < truth + 4 * error
        assert abs(bounds[-1][0] - truth) < 4 * bounds[-1][1] + 1e-3 and bounds[-1][1] < 5e-3

    def test_importance_weighted_bound_lies_between(self, linear_gaussian: Model) -> None:
        model = wrong(linear_gaussian)
        x = model.data(1).expand(20_000, -1)
        found = [mean_and_error(-free_energy(model, x, samples=k, objective="iwae").loss) for k in (1, 5, 50)]
        truth, kl = model.log_evidence(x)[0].item(), model.kl(x)[0].item()
        assert abs(found[0][0] - (truth - kl)) < 4 * found[0][1]
        assert found[0][0] < found[1][0] - 0.05 and found[1][0] < found[2][0] - 0.01
        assert found[2][0] < truth + 4 * found[2][1]
        # the bound with k samples is the expectation of the estimate with S = k
        same = mean_and_error(estimate(model, x, 5).log_evidence)
        assert abs(same[0] - found[1][0]) < 4 * (same[1] ** 2 + found[1][1] ** 2) ** 0.5

    @pytest.mark.parametrize("samples", [1, 4, 30])
    def test_the_estimate_of_the_evidence_itself_is_unbiased(self, linear_gaussian: Model, samples: int) -> None:
        model = wrong(linear_gaussian)
        x = model.data(1).expand(20_000, -1)
        ratio, error = mean_and_error((estimate(model, x, samples).log_evidence - model.log_evidence(x)).exp())
        assert abs(ratio - 1) < 4 * error and error < 0.03

    def test_effective_samples_are_what_the_weights_variance_says(self, linear_gaussian: Model) -> None:
        """ESS/S → 1/(1 + χ²), χ² = ∫ p²/q − 1, here from the Gaussian integral in one dimension."""
        model = linear_gaussian(latents=1, features=1, stretch=1.5)
        x = torch.tensor([[0.4]], dtype=torch.float64)
        second_moment = 1.5 / (2 - 1 / 1.5**2) ** 0.5  # of p/q, both with the same mean, at 1.5 times the σ
        found = estimate(model, x.expand(20, -1), 10_000).effective_samples / 10_000
        assert found.mean().item() == pytest.approx(1 / second_moment, abs=4 * found.std().item() / 20**0.5)

    def test_free_energies_bound_is_loose_by_the_kl_of_the_same_weights(self, linear_gaussian: Model) -> None:
        model = wrong(linear_gaussian)
        x = model.data(4)
        found = estimate(model, x, 20_000)
        torch.testing.assert_close(found.kl, found.free_energy + found.log_evidence, rtol=0, atol=0)
        torch.testing.assert_close(found.kl, model.kl(x), rtol=0, atol=0.05)

    def test_forty_dimensions(self, linear_gaussian: Model) -> None:
        """As many as the MNIST model has; a posterior too wide by 15 % in each direction."""
        model = linear_gaussian(latents=40, features=100, sigma=1.0, stretch=1.15)
        x = model.data(25)
        found, truth = estimate(model, x, 2000, rows=5000), model.log_evidence(x)
        mean, error = mean_and_error(found.log_evidence - truth)
        assert abs(mean) < 4 * error + 1 / 500 and error < 0.03
        mean, error = mean_and_error(found.free_energy + truth - model.kl(x))
        assert abs(mean) < 4 * error and error < 0.03
        assert 0.2 < found.effective_samples.mean().item() / 2000 < 0.4  # 1/(1 + χ²) = 0.29


class TestFlowPosterior:
    """A planar flow by its contract, far from any Gaussian; the truth is by quadrature."""

    @pytest.mark.parametrize(("latents", "points"), [(1, 4001), (2, 301)])
    def test_against_quadrature(self, linear_gaussian: Model, latents: int, points: int) -> None:
        model = linear_gaussian(latents=latents, features=latents, sigma=1.0, flow=planar(latents))
        x = model.data(1)
        axis = torch.linspace(-15, 15, points, dtype=torch.float64)
        z = torch.stack(torch.meshgrid(*[axis] * latents, indexing="ij"), -1).reshape(-1, 1, latents)
        cell = (axis[1] - axis[0]) ** latents
        with torch.no_grad():
            log_q = model.posterior(x).log_prob(z)
        log_weight = model.log_joint(x, z) - log_q
        mass = (log_q.exp() * cell).sum()
        torch.testing.assert_close(mass.item(), 1.0, rtol=0, atol=1e-3)
        free = (-(log_q.exp() * log_weight).sum() * cell / mass).item()
        assert free > -model.log_evidence(x).item() + 0.1

        repeated = x.expand(2000, -1)
        with torch.no_grad():
            terms = free_energy(model, repeated, samples=20)
        found = estimate(model, repeated, 20)
        for values in (terms.value, found.free_energy):
            mean, error = mean_and_error(values)
            assert abs(mean - free) < 4 * error + 1e-3 * abs(free)
        evidence = estimate(model, x.expand(4, -1), 100_000)
        assert (evidence.effective_samples > 2000).all()
        off = (evidence.log_evidence - model.log_evidence(x)).abs()
        assert (off < 5 / evidence.effective_samples.sqrt()).all()
