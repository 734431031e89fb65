"""Importance-weighted bounds and the standard error of ln p̂, streamed, against all weights at once and in repeats."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowvi.errors import ConfigError
from flowvi.evidence import Evidence, importance_sampling, of_log_weights


def brute(log_weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    groups = torch.stack([part.logsumexp(0) - math.log(k) for part in log_weights.split(k) if len(part) == k])
    return groups.mean(0), groups.std(0) / len(groups) ** 0.5 if len(groups) > 1 else groups[0] * math.nan


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70), st.floats(0.01, 1e3))
def test_any_chunks_give_the_groups_of_all_weights(samples: int, k: int, chunk: int, scale: float) -> None:
    torch.manual_seed(samples)
    log_weights = scale * torch.randn(samples, 3, dtype=torch.float64)
    k = min(k, samples)
    bound = of_log_weights(log_weights.split(chunk), samples, bounds=[k]).bounds[k]
    value, error = brute(log_weights, k)
    assert (bound.k, bound.groups) == (k, samples // k)
    torch.testing.assert_close(bound.value, value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(bound.se, error, rtol=1e-8, atol=1e-10 * scale, equal_nan=True)


def test_the_ends_are_the_elbo_and_the_estimate_itself() -> None:
    log_weights = torch.randn(60, 4, dtype=torch.float64)
    found = of_log_weights(log_weights.split(7), 60, bounds=(1, 60))
    torch.testing.assert_close(found.bounds[1].value, -found.free_energy)
    torch.testing.assert_close(found.bounds[1].se, log_weights.std(0) / 60**0.5)
    torch.testing.assert_close(found.bounds[60].value, found.log_evidence)
    assert found.bounds[60].se.isnan().all()


def test_two_weights_by_hand() -> None:
    """w = 1 or 9, as a coin falls: L_1 = ln 3, L_2 = ½ ln 3 + ½ ln 5, ln E[w] = ln 5."""
    samples = 400_000
    log_weights = torch.randint(2, (samples, 1)).double() * math.log(9)
    found = of_log_weights(log_weights.split(4321), samples, bounds=(1, 2))
    for k, exact in ((1, math.log(3)), (2, (math.log(3) + math.log(5)) / 2)):
        assert abs(found.bounds[k].value.item() - exact) < 4 * found.bounds[k].se.item() < 0.01
    assert abs(found.log_evidence.item() - math.log(5)) < 4 * found.log_evidence_se.item()
    assert found.log_evidence_se.item() == pytest.approx(4 / 5 / samples**0.5, rel=0.01)  # sd(w) = 4, E[w] = 5


def test_bounds_of_the_exact_posterior_are_the_evidence(linear_gaussian: Any) -> None:
    model = linear_gaussian()
    x = model.data(5)
    found = estimate(model, x, 100, bounds=(1, 3, 50))
    for bound in found.bounds.values():
        torch.testing.assert_close(bound.value, model.log_evidence(x), rtol=0, atol=1e-12)
        assert (bound.se < 1e-12).all()
    assert (found.log_evidence_se < 1e-6).all()


def test_bounds_grow_with_k_up_to_the_evidence(linear_gaussian: Any) -> None:
    model = linear_gaussian(shift=0.15, stretch=1.6)
    x = model.data(1)
    truth, ks = model.log_evidence(x).item(), (1, 2, 5, 20, 100)
    bounds = [b for b in estimate(model, x, 400_000, bounds=ks).bounds.values()]
    assert [b.k for b in bounds] == list(ks)
    assert abs(bounds[0].value.item() - (truth - model.kl(x).item())) < 4 * bounds[0].se.item()
    for low, high in pairwise(bounds):
        assert high.value.item() - low.value.item() > 4 * math.hypot(low.se.item(), high.se.item())
    assert truth - 0.02 < bounds[-1].value.item() < truth + 4 * bounds[-1].se.item()


@pytest.mark.parametrize("k", [0, -1, 11])
def test_a_bound_that_cannot_be(k: int) -> None:
    with pytest.raises(ConfigError, match=f"k = {k}: expected from 1 to the number of samples, 10"):
        of_log_weights([torch.zeros(10, 1)], 10, bounds=[k])


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.integers(2, 50), st.floats(1e-3, 30), st.floats(-1e4, 1e4))
def test_the_error_is_that_of_the_delta_method(samples: int, scale: float, level: float) -> None:
    torch.manual_seed(samples)
    log_weights = level + scale * torch.randn(samples, 2, dtype=torch.float64)
    weights = (log_weights - log_weights.max(0).values).exp()
    expected = weights.std(0) / samples**0.5 / weights.mean(0)
    found = of_log_weights(log_weights.split(3), samples).log_evidence_se
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_errors_that_are_not_known() -> None:
    assert of_log_weights([torch.zeros(1, 2)], 1).log_evidence_se.isnan().all()
    one = torch.ones(2).double()
    assert Evidence(one, one, one).log_evidence_se.isnan().all()


@pytest.mark.parametrize("samples", [200, 2000])
def test_two_errors_cover_the_truth(linear_gaussian: Any, samples: int) -> None:
    """In 1000 repeats, 95 % are expected: 0.95 ± 3·0.007."""
    model = linear_gaussian(shift=0.15, stretch=1.6)
    x = model.data(1)
    found = estimate(model, x.expand(1000, -1), samples)
    inside = (found.log_evidence - model.log_evidence(x)).abs() < 2 * found.log_evidence_se
    assert 0.925 < inside.double().mean() < 0.975


def estimate(model: Any, x: Tensor, samples: int, bounds: tuple[int, ...] = ()) -> Evidence:
    return importance_sampling(
        lambda z: model.log_joint(x, z), model.posterior(x), samples, rows=100_000, bounds=bounds
    )
