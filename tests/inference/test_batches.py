"""`fit` with minibatches: against a regression whose posterior and evidence are known, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

import flowvi
from flowvi.errors import ConfigError, DataError, DensityError, ShapeError
from flowvi.inference.fitting.batched import BatchedDensity
from flowvi.inference.fitting.batches import Batches, affordable
from flowvi.inference.fitting.effort import EFFORTS
from flowvi.inference.fitting.joint import Joint

NOISE = 0.8


def prior(w: Tensor) -> Tensor:
    return -w.square().sum(-1) / 2 - w.shape[-1] / 2 * math.log(2 * math.pi)


def regression(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return -((y - w @ x.T) / NOISE).square().sum(-1) / 2 - len(y) / 2 * math.log(2 * math.pi * NOISE**2)


def logistic(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return -torch.nn.functional.softplus(-(w @ x.T) * y).sum(-1)


def rows(n: int, features: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n, features, generator=generator).double()
    w = torch.linspace(-1, 1, features).double()
    return x, x @ w + NOISE * torch.randn(n, generator=generator).double()


def exact(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean, covariance and ln Z of the regression."""
    covariance = (torch.eye(x.shape[1]).double() + x.T @ x / NOISE**2).inverse()
    mean = covariance @ x.T @ y / NOISE**2
    fitted = prior(mean) + regression(mean[None], x, y)[0]  # ln p(y) = ln p(y, w) − ln p(w | y), at the mean
    return mean, covariance, (fitted - MultivariateNormal(mean, covariance).log_prob(mean)).item()


def near(found: Any, x: Tensor, y: Tensor, close: float = 0.05) -> None:
    mean, covariance, log_z = exact(x, y)
    draws = found.sample(20_000)
    assert abs(found.log_evidence - log_z) < 4.5 * found.log_evidence_se + 1e-3
    assert ((draws.mean(0) - mean) / covariance.diagonal().sqrt()).abs().max() < close
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (draws - mean).T, upper=False)
    assert (whitened.cov() - torch.eye(len(mean)).double()).abs().max() < 0.03 + close
    assert found.verdict.label == "trust", str(found)


@pytest.mark.slow
def test_a_regression() -> None:
    x, y = rows(20_000)
    found = flowvi.fit(prior, 3, batches=flowvi.Batches(regression, (x, y)), effort="fast", dtype=torch.float64)
    near(found, x, y)
    assert "rests on all 20,000 rows" in str(found) and "instead of 20,000" in str(found)


@pytest.mark.slow
def test_a_logistic_regression_agrees_with_all_rows_at_once() -> None:
    x, y = rows(5000)
    y = (y > 0).double() * 2 - 1
    settings: Any = {"effort": "fast", "dtype": torch.float64}
    some = flowvi.fit(prior, 3, batches=flowvi.Batches(logistic, (x, y), size=128), **settings)
    whole = flowvi.fit(lambda w: prior(w) + logistic(w, x, y), 3, **settings)
    error = math.hypot(some.log_evidence_se, whole.log_evidence_se)
    assert abs(some.log_evidence - whole.log_evidence) < 4 * error + 1e-3
    one, other = some.sample(20_000), whole.sample(20_000)
    assert ((one.mean(0) - other.mean(0)) / other.std(0)).abs().max() < 0.1
    assert (one.std(0) / other.std(0) - 1).abs().max() < 0.1


@pytest.fixture
def density() -> BatchedDensity:
    return BatchedDensity(prior, Batches(regression, rows(900), size=100), Joint.of(3))


def test_all_rows_in_chunks_are_all_rows(density: BatchedDensity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowvi.inference.fitting.batched._CELLS", 400)
    z = torch.randn(5, 3).double().requires_grad_()
    whole = prior(z) + regression(z, *density.batches.data)
    (slope,) = torch.autograd.grad(whole.sum(), z, retain_graph=True)
    with torch.no_grad():
        torch.testing.assert_close(density(z), whole)
    torch.testing.assert_close(density.value_and_gradient(z), (whole.detach(), slope))
    torch.testing.assert_close(torch.autograd.grad(density(z).sum(), z)[0], slope)


def test_steps_are_unbiased_and_exact_at_their_anchor(density: BatchedDensity) -> None:
    mean, covariance, _ = exact(*density.batches.data)
    steps = density.for_steps(mean)
    z = mean + torch.randn(4, 3).double() @ torch.linalg.cholesky(covariance).T
    whole = density.value_and_gradient(z)
    torch.testing.assert_close(steps.value_and_gradient(mean[None]), density.value_and_gradient(mean[None]))
    found = [steps.value_and_gradient(z) for _ in range(400)]
    for value, each in zip(whole, zip(*found, strict=True), strict=True):
        drawn = torch.stack(each)
        assert ((drawn.mean(0) - value).abs() < 5 * drawn.std(0) / 20 + 1e-6).all()
    with torch.no_grad():
        torch.testing.assert_close(steps(z), density(z))


def test_a_small_regression_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"restarts": 1, "block": 20, "blocks": 4, "races": 5, "draws": 1000, "evidence": 4000}
    tiny = replace(EFFORTS["fast"], **sizes, chains=16, distributions=5)
    monkeypatch.setattr("flowvi.inference.fitting.entry.EFFORTS", {"fast": tiny})
    monkeypatch.setattr("flowvi.inference.fitting.batched._SUBSET", 200)
    x, y = rows(1000, features=2)
    found = flowvi.fit(
        prior, 2, batches=flowvi.Batches(regression, (x, y), size=100), effort="fast", dtype=torch.float64
    )
    near(found, x, y, close=0.15)  # standard deviations, after so few steps
    assert "rests on all 1,000 rows" in str(found)


@pytest.mark.parametrize(
    ("likelihood", "says"),
    [
        (lambda w, x, y: -(y - w @ x.T).square().mean(-1), "it is their mean"),
        (lambda w, x, y: regression(w, x, y) + prior(w), "a prior inside it"),
        (lambda w, x, y: regression(w, x, y)[:, None], r"the log likelihood returned shape \(5, 1\)"),
    ],
)
def test_likelihoods_that_are_refused(likelihood: Any, says: str) -> None:
    with pytest.raises(DensityError, match=says):
        flowvi.fit(prior, 3, batches=flowvi.Batches(likelihood, rows(300), size=50), dtype=torch.float64)


@pytest.mark.parametrize(
    ("data", "size", "error", "says"),
    [
        ((torch.zeros(9, 2), torch.zeros(8)), 4, ShapeError, "9, 8 rows"),
        (torch.zeros(9), 10, ConfigError, "from 1 to N, here 9"),
        (torch.zeros(9), 0, ConfigError, "from 1 to N, here 9"),
        ([[1.0, 2.0]], 1, DataError, "hold a list"),
        (torch.zeros(0), 1, ShapeError, "at least one row"),
    ],
)
def test_data_that_are_refused(data: Any, size: int, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        flowvi.Batches(regression, data, size=size)


def test_settings_that_are_refused() -> None:
    batches = flowvi.Batches(regression, rows(300), size=50)
    for settings in ({"batches": (regression, rows(30))}, {"batches": batches, "vectorised": False}):
        with pytest.raises(ConfigError):
            flowvi.fit(prior, 3, **settings)
    with pytest.raises(ConfigError, match="give one of them"):
        flowvi.fit(prior, 3, batches=batches, context=torch.randn(30, 2))


def test_many_rows_are_told_of() -> None:
    fewer, notes = affordable(EFFORTS["fast"], 10**6)
    assert (fewer.evidence, fewer.draws, fewer.chains) == (2000, 1000, 16)
    assert "2,000 draws instead of 20,000" in notes[1]
