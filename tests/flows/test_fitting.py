"""Fitting to samples: `flow.fit_to` and `flowvi.flows.fit_to` learn a density, and name what they cannot learn from."""

from __future__ import annotations

import math

import pytest
import torch

from flowvi.errors import ConfigError, ContextError, DataError, NonFiniteError, ShapeError
from flowvi.flows import FullRankGaussian, Gaussian, Planar, RealNVP, build, fit_to

NOISE = 0.3
ENTROPY = 0.5 * math.log(2 * math.pi * math.e) + 0.5 * math.log(2 * math.pi * math.e * NOISE**2)  # of `banana`


def banana(count: int) -> torch.Tensor:
    """x ~ N(0, 1), y given x ~ N(x², 0.3²): of known entropy."""
    x = torch.randn(count, 1)
    return torch.cat([x, x.square() + NOISE * torch.randn(count, 1)], -1)


def test_a_flow_learns_a_density_of_known_entropy() -> None:
    samples, fresh = banana(4000), banana(4000)
    flow = RealNVP(2, length=2, hidden=(32, 32))
    history = flow.fit_to(samples, updates=600, learning_rate=1e-2)
    assert len(history) == 600
    gaussian = Gaussian(2)
    fit_to(gaussian, samples, updates=50)
    cost, plain = (-q().log_prob(fresh).mean().item() for q in (flow, gaussian))
    assert history[0] > cost + 0.3
    assert plain > cost + 0.3
    assert cost == pytest.approx(ENTROPY, abs=0.15)


def test_a_gaussian_finds_the_maximum_of_the_likelihood() -> None:
    samples = torch.randn(2000, 2).double() @ torch.tensor([[1.0, 0.8], [0.0, 0.5]]).double() + 3
    flow = FullRankGaussian(2).double()
    flow.fit_to(samples, updates=500, batch=2000, learning_rate=3e-2)
    torch.testing.assert_close(flow().mean, samples.mean(0), rtol=0, atol=0.02)
    torch.testing.assert_close(flow().variance, samples.var(0), rtol=0.03, atol=0)
    assert torch.allclose(torch.cov(flow().sample((50_000,)).T), torch.cov(samples.T), atol=0.05)


def test_a_static_flow_starts_at_the_samples_mean_and_scale() -> None:
    samples = 100 + 1e-3 * torch.randn(500, 2)
    flow = Planar(2, length=2)
    history = flow.fit_to(samples, updates=1)
    assert history[0] == pytest.approx(math.log(2 * math.pi * math.e) + 2 * math.log(1e-3), abs=0.2)


def test_an_amortised_flow_learns_what_the_context_says() -> None:
    context = torch.randn(3000, 1)
    samples = torch.cat([context, -context], -1) + 0.1 * torch.randn(3000, 2)
    flow = Planar(2, 1, 2)
    flow.fit_to(samples, context, updates=400, learning_rate=2e-2)
    q = flow(torch.tensor([[2.0], [-1.0]]))
    assert torch.allclose(q.sample((2000,)).mean(0), torch.tensor([[2.0, -2.0], [-1.0, 1.0]]), atol=0.1)


def test_one_seed_gives_one_fit() -> None:
    samples, found = banana(300), []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(Planar(2, length=2).fit_to(samples, updates=5, batch=32))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "settings", [{"updates": 0}, {"updates": 5.0}, {"batch": 0}, {"learning_rate": 0.0}, {"learning_rate": math.inf}]
)
def test_wrong_settings_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected whole numbers of at least 1"):
        Planar(2).fit_to(banana(10), **settings)


def test_wrong_samples_are_named() -> None:
    for shape in ((10, 3), (10,), (2, 5, 2)):
        with pytest.raises(ShapeError, match=r"expected \(N, 2\)"):
            Planar(2).fit_to(torch.zeros(shape))
    for samples in (torch.zeros(0, 2), torch.zeros(3, 2).double(), torch.tensor([[0.0, math.nan]])):
        with pytest.raises(DataError, match=r"expected one or more, of torch\.float32, all finite"):
            Planar(2).fit_to(samples)


def test_wrong_contexts_are_named() -> None:
    with pytest.raises(ContextError, match="takes no context"):
        Planar(2).fit_to(banana(10), torch.zeros(10, 1))
    with pytest.raises(ContextError, match="needs a context"):
        Planar(2, 1).fit_to(banana(10))
    for shape in ((10, 2), (9, 1), (10,)):
        with pytest.raises(ShapeError, match=r"expected \(10, 1\)"):
            Planar(2, 1).fit_to(banana(10), torch.zeros(shape))


def test_a_likelihood_that_is_not_finite_leaves_the_weights_of_before() -> None:
    flow = Planar(2, 1, 2)
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    with pytest.raises(NonFiniteError, match=r"update 0: .* try a smaller learning_rate, or samples scaled to about 1"):
        flow.fit_to(torch.full((4, 2), 1e30), torch.zeros(4, 1), updates=5)
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())


@pytest.mark.parametrize("kind", ["iaf", "householder", "planar"])
def test_the_base_starts_where_the_chain_wants_it(kind: str) -> None:
    """Samples far from 0 and small, and a second fit of a flow that was fitted: no chain is thrown back."""
    samples = 100 + 0.5 * torch.randn(500, 2)
    flow = build(kind, 2, 0, 3, **({"init": "normal"} if kind == "householder" else {}))
    first = flow.fit_to(samples, updates=20)
    assert first[0] < 2.5
    assert flow.fit_to(samples, updates=1)[0] < first[0] + 0.3


def test_a_frozen_base_stays() -> None:
    flow = build("planar", 2, 0, 2)
    flow.base.requires_grad_(False)
    flow.fit_to(torch.randn(100, 2) + 5, updates=3)
    assert (flow.base.location == 0).all()


def test_samples_without_a_density_are_refused() -> None:
    samples = torch.randn(100, 2)
    samples[:, 1] = 3
    flow = build("planar", 2, 0, 2)
    with pytest.raises(DataError, match="feature 1 does not vary"):
        flow.fit_to(samples)
    assert (flow.base.location == 0).all()
    with pytest.raises(DataError, match=r"samples are a ndarray: expected a torch\.Tensor, \(N, 2\)"):
        flow.fit_to(samples.numpy())
