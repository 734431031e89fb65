"""`fit` with a context against models whose posterior and evidence are known for every data set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

import flowvi
from flowvi.errors import ConfigError, ContextError, DataError, DensityError, ShapeError
from flowvi.inference import AmortisedFit
from flowvi.inference.fitting import EFFORTS

W = torch.tensor([[1.0, 0.8], [0.2, 1.0], [-0.5, 0.3]])
NOISE = 0.5


def linear(p: dict[str, Tensor], x: Tensor) -> Tensor:
    """x = W θ + ε, θ ~ N(0, I), ε ~ N(0, NOISE² I), with every constant."""
    theta = p["theta"]
    prior = -theta.square().sum(-1) / 2 - math.log(2 * math.pi)
    residual = ((x[:, :3] - theta @ W.T) / NOISE).square().sum(-1) / 2
    return prior - residual - 1.5 * math.log(2 * math.pi * NOISE**2)


def bimodal(z: Tensor, x: Tensor) -> Tensor:
    """x = z² + ε: for x well above 0 the posterior is as much around √x as around −√x."""
    return -z[:, 0].square() / 18 - (x[:, 0] - z[:, 0].square()).square() / 0.5


@pytest.fixture(scope="module", autouse=True)
def _brief() -> Any:
    """Efforts small enough for a test, and one row alone."""
    sizes = {"restarts": 1, "block": 25, "blocks": 4, "races": 8, "draws": 2000, "evidence": 20_000}
    tiny = MappingProxyType({"fast": replace(EFFORTS["fast"], **sizes)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowvi.inference.fitting.entry.EFFORTS", tiny)
        patch.setattr("flowvi.inference.fitting.amortised.gap.EFFORTS", tiny)
        patch.setattr("flowvi.inference.fitting.amortised.gap._ROWS", 1)
        patch.setattr("flowvi.inference.fitting.amortised.start._ROWS", 4)
        yield


@pytest.fixture(scope="module")
def data() -> Tensor:
    """300 data sets, their third column among the context's four constant."""
    generator = torch.Generator().manual_seed(1)
    theta = torch.randn(300, 2, generator=generator)
    x = theta @ W.T + NOISE * torch.randn(300, 3, generator=generator)
    return torch.cat([x, torch.full((300, 1), 7.0)], -1)


@pytest.fixture(scope="module")
def found(data: Tensor) -> AmortisedFit:
    return flowvi.fit(linear, {"theta": flowvi.supports.real(2)}, context=data, seed=1, effort="fast")


def exact(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (n, 2), covariance (2, 2), and ln Z (n,)."""
    covariance = (torch.eye(2) + W.T @ W / NOISE**2).inverse()
    marginal = MultivariateNormal(torch.zeros(3).double(), (W @ W.T + NOISE**2 * torch.eye(3)).double())
    return x[:, :3] @ W @ covariance / NOISE**2, covariance, marginal.log_prob(x[:, :3].double())


def test_linear_gaussian(found: AmortisedFit) -> None:
    rows = found.contexts.held_out
    mean, covariance, log_z = exact(rows)
    torch.manual_seed(2)
    evidence = found.evidence(rows)
    held_out = found.stage.held_out
    assert ((evidence.log_evidence - log_z).abs() < 4.5 * evidence.log_evidence_se + 1e-4).all()
    assert (held_out.rows <= log_z + 4.5 * held_out.spread / math.sqrt(held_out.draws) + 1e-4).all()
    assert log_z.mean().item() - 0.01 < found.elbo <= log_z.mean().item() + 1e-3
    draws = found.sample(20_000, rows)["theta"]
    assert draws.shape == (20_000, len(rows), 2)
    assert ((draws.mean(0) - mean) / covariance.diagonal().sqrt()).abs().max() < 0.05
    for i in range(0, len(rows), 5):
        torch.testing.assert_close(draws[:, i].T.cov(), covariance, atol=0.05 * covariance.max().item(), rtol=0)


def test_its_verdict_and_table(found: AmortisedFit) -> None:
    text = str(found)
    assert found.verdict.label == "trust" and "VERDICT: trust" in text, text
    assert "270 rows trained on, 30 held out" in text and "column 3" in text
    assert "Beyond it nothing is known" in text and "<- this one" in text


def test_outside_the_range(found: AmortisedFit, data: Tensor) -> None:
    rows = torch.stack([found.contexts.training[0], 100 + data[0]])
    evidence = found.evidence(rows, draws=100)
    assert evidence.outside.tolist() == [False, True]
    first, second = str(evidence).splitlines()[1:]
    assert "outside the range" in second and "outside" not in first


def test_the_density_integrates_its_draws(found: AmortisedFit) -> None:
    q = found.posterior(found.contexts.held_out[:4])
    assert tuple(q.batch_shape) == (4,)
    values, log_q = q.rsample_and_log_prob((50,))
    torch.testing.assert_close(q.log_prob(values), log_q, rtol=1e-4, atol=1e-4)
    assert tuple(found.posterior(found.contexts.held_out[0]).batch_shape) == ()


def test_saved_and_loaded(found: AmortisedFit, data: Tensor, tmp_path: Path) -> None:
    found.save(tmp_path / "kept")
    again = flowvi.load(tmp_path / "kept")
    assert str(again) == str(found)
    values = found.sample(5, data[:3])
    torch.testing.assert_close(again.posterior(data[:3]).log_prob(values), found.posterior(data[:3]).log_prob(values))
    with pytest.raises(DensityError, match="holds no log density"):
        again.evidence(data[:3])


def test_a_gaussian_of_two_modes_is_not_trusted() -> None:
    generator = torch.Generator().manual_seed(3)
    x = 4 + 12 * torch.rand(200, 1, generator=generator)
    found = flowvi.fit(bimodal, 1, context=x, flow="gaussian", effort="fast")
    assert [stage.name for stage in found.stages] == ["mean-field"]
    assert found.verdict.label == "do not trust", str(found)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda x: x.tolist(), DataError, "expected a torch.Tensor"),
        (lambda x: x[:, 0], ShapeError, r"context\[:, None\]"),
        (lambda x: x[:1], DataError, "1 rows: expected at least 20"),
        (lambda x: x[:1].expand(50, -1), DataError, "nothing to amortise over"),
        (lambda x: torch.where(x == x[3, 1], math.nan, x), DataError, "nan at row 3, column 1"),
    ],
)
def test_contexts_that_are_refused(data: Tensor, change: Callable[..., Any], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        flowvi.fit(linear, {"theta": flowvi.supports.real(2)}, context=change(data), effort="fast")


@pytest.mark.parametrize(
    ("density", "says"),
    [
        (lambda z, c: -(z - c[:, :2]).square(), r"returned shape \(5, 2\) for 5 points"),
        (lambda z, c: -(z - c[:, :2].mean(0)).square().sum(-1), "point i must use row i"),
        (lambda z, c: -z.square().sum(-1), "the same for 50 rows of context"),
        (lambda z, c: -(z - c[:, :2]).square().sum(-1) * math.nan, "for the data set of context"),
    ],
)
def test_densities_that_are_refused(data: Tensor, density: Callable[..., Tensor], says: str) -> None:
    with pytest.raises(DensityError, match=says):
        flowvi.fit(density, 2, context=data, effort="fast")


def test_settings_that_are_refused(found: AmortisedFit, data: Tensor) -> None:
    for settings in ({"tails": 3.0}, {"vectorised": False}, {"flow": flowvi.flows.Planar(2)}, {"flow": "planr"}):
        with pytest.raises(ConfigError):
            flowvi.fit(linear, {"theta": flowvi.supports.real(2)}, context=data, effort="fast", **settings)
    with pytest.raises(ContextError, match=r"expected \(N, 4\)"):
        found.sample(3, data[:, :2])
    with pytest.raises(DataError, match="nan at row 0"):
        found.evidence(data[:2] * math.nan)
    with pytest.raises(ConfigError, match="at least 25"):
        found.evidence(data[:2], draws=3)
