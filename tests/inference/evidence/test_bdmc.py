"""Bidirectional Monte Carlo: the truth lies between, and each direction's weights are unbiased."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from flowvi.evidence import Bidirectional, bidirectional_monte_carlo
from flowvi.flows import Planar
from flowvi.models import DLGM


def simulate(model: Any, n: int) -> tuple[Tensor, Tensor]:
    z = torch.randn(n, model.latents, dtype=torch.float64)
    return z, z @ model.w.T + model.sigma * torch.randn(n, model.features, dtype=torch.float64)


def sandwich(model: Any, normal: Any, n: int, begin: str = "prior", **options: Any) -> Bidirectional:
    def initial(x: Tensor) -> Any:
        exact = model.exact_posterior(x)
        if begin == "posterior":  # too narrow, so that 1/w is bounded
            return normal(exact.loc + 0.1, 0.8 * exact.variance.sqrt())
        return normal(torch.zeros(len(x), model.latents).double())

    options = {"leapfrog": 3, **options}
    return bidirectional_monte_carlo(partial(simulate, model), model.log_joint, initial, n, **options)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


@pytest.mark.parametrize("features", [1, 2, 10])
@pytest.mark.parametrize("begin", ["prior", "posterior"])
def test_the_truth_lies_between(linear_gaussian: Any, normal: Any, features: int, begin: str) -> None:
    model = linear_gaussian(latents=features, features=3, sigma=1.0)
    found = sandwich(model, normal, 150, begin, distributions=20, chains=4)
    truth = model.log_evidence(found.x)
    below, above = mean_and_error(found.lower - truth), mean_and_error(found.upper - truth)
    assert below[0] < 3 * below[1] and above[0] > -3 * above[1]
    gap, error = found.mean_gap
    assert (gap, error) == pytest.approx(mean_and_error(found.upper - found.lower))
    assert -3 * error < gap < 1.5
    assert found.lower.shape == found.upper.shape == found.lower_se.shape == found.upper_se.shape == (150,)


def test_each_direction_is_unbiased(linear_gaussian: Any, normal: Any) -> None:
    """E[w]/Z = 1 forwards and E[Z/w] = 1 in reverse, over z, x and chains."""
    model = linear_gaussian(latents=2, features=3, sigma=1.0)
    found = sandwich(model, normal, 1500, distributions=25, chains=4)
    truth = model.log_evidence(found.x)
    for log_ratio in (found.forward.log_weights - truth, truth - found.reverse.log_weights):
        ratio, error = mean_and_error(log_ratio.exp().mean(0))
        assert abs(ratio - 1) < 4 * error and error < 0.05


def test_the_gap_closes(linear_gaussian: Any, normal: Any) -> None:
    model = linear_gaussian(latents=2, features=3, sigma=0.5)
    gaps = [sandwich(model, normal, 100, distributions=n, chains=8).mean_gap for n in (5, 30, 200)]
    assert gaps[0][0] > 2 * gaps[1][0] > 4 * gaps[2][0] > -3 * gaps[2][1]
    assert gaps[2][0] < 0.15


def test_one_distribution_in_reverse_is_the_weight_of_the_truth(linear_gaussian: Any, normal: Any) -> None:
    """Both ends of the path without any transition: the upper bound is ln p(x, z) − ln q(z) at the z that made x."""
    model = linear_gaussian()
    torch.manual_seed(3)
    found = sandwich(model, normal, 40, distributions=1, chains=2)
    torch.manual_seed(3)
    z, x = simulate(model, 40)
    assert torch.equal(x, found.x)
    expected = model.log_joint(x, z) - normal(torch.zeros(40, 3).double()).log_prob(z)
    torch.testing.assert_close(found.upper, expected)
    assert (found.upper_se < 1e-6).all()


def test_the_error_of_the_upper_bound(linear_gaussian: Any, normal: Any) -> None:
    found = sandwich(linear_gaussian(), normal, 5, distributions=10, chains=8)
    inverse = (-found.reverse.log_weights).exp()
    torch.testing.assert_close(found.upper, -inverse.mean(0).log())
    torch.testing.assert_close(found.upper_se, inverse.std(0) / 8**0.5 / inverse.mean(0), rtol=1e-6, atol=1e-9)
    assert not torch.equal(found.reverse.states[0], found.reverse.states[1])


@pytest.mark.parametrize("latents", [[2], [2, 3]])
def test_a_dlgm(latents: list[int]) -> None:
    """In float32, from an amortised flow, one and two layers."""
    model = DLGM(features=8, latents=latents, flow=partial(Planar, length=2), maxout=(8, 4))
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
    found = bidirectional_monte_carlo(
        model.simulate, model.log_joint, model.posterior, 30, distributions=30, chains=4, leapfrog=2
    )
    gap, error = found.mean_gap
    assert -3 * error < gap < 0.3
    assert found.x.shape == (30, 8) and found.forward.acceptance.mean().item() == pytest.approx(0.65, abs=0.15)


def test_one_datum_has_no_error_of_its_gap(linear_gaussian: Any, normal: Any) -> None:
    gap, error = sandwich(linear_gaussian(), normal, 1, distributions=3, chains=2).mean_gap
    assert math.isfinite(gap) and math.isnan(error)
