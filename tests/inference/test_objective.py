"""The annealed free energy and the importance-weighted bound, by hand and by finite differences."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from flowvi.errors import ConfigError
from flowvi.flows import Planar
from flowvi.inference import annealing_weight, free_energy
from flowvi.models import DLGM

each_annealing = pytest.mark.parametrize("annealing", ["joint", "kl", "none"])
each_objective = pytest.mark.parametrize("objective", ["elbo", "iwae"])


class TestAnnealingWeight:
    @pytest.mark.parametrize(
        ("update", "beta"),
        [(0, 0.01), (99, 0.0199), (5000, 0.51), (9899, 0.9999), (9900, 1), (10_000, 1), (500_000, 1)],
    )
    def test_joint_is_the_papers(self, update: int, beta: float) -> None:
        assert annealing_weight("joint", update, 10_000) == pytest.approx(beta, abs=1e-15)

    @pytest.mark.parametrize(("update", "beta"), [(0, 0), (99, 0.0099), (9900, 0.99), (10_000, 1), (20_000, 1)])
    def test_kl_starts_at_nothing(self, update: int, beta: float) -> None:
        assert annealing_weight("kl", update, 10_000) == pytest.approx(beta, abs=1e-15)

    @pytest.mark.parametrize("update", [0, 99, 10_000])
    def test_none_and_no_warm_up_are_one(self, update: int) -> None:
        assert annealing_weight("none", update, 10_000) == 1
        assert annealing_weight("joint", update, 0) == annealing_weight("kl", update, 0) == 1

    @settings(deadline=None, derandomize=True)
    @given(
        st.sampled_from(["joint", "kl", "none"]),
        st.integers(0, 10**7),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
    )
    def test_grows_within_zero_and_one(self, annealing: str, update: int, later: int, warmup: int) -> None:
        beta, after = (annealing_weight(annealing, t, warmup) for t in (update, update + later))
        assert 0 <= beta <= after <= 1
        assert annealing_weight(annealing, warmup, warmup) == 1

    def test_unknown_word(self) -> None:
        with pytest.raises(ConfigError, match="annealing = 'Joint': allowed are joint, kl, none"):
            annealing_weight("Joint", 0, 10)


class Given:
    """A model whose densities are given numbers, (k, batch): what is left is the formula."""

    def __init__(self, log_q: Tensor, log_prior: Tensor, log_likelihood: Tensor) -> None:
        self.terms = log_q, log_prior, log_likelihood

    def posterior(self, x: Tensor) -> Given:
        return self

    def push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return noise, self.terms[0]

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        assert tuple(sample_shape) == (len(self.terms[0]),)
        return self.terms[0], self.terms[0]

    def log_prior(self, z: Tensor) -> Tensor:
        return self.terms[1]

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return self.terms[2]


def by_hand(terms: tuple[np.ndarray, ...], annealing: str, beta: float, objective: str) -> np.ndarray:
    log_q, log_prior, log_likelihood = terms
    log_weights = {
        "joint": beta * log_prior + beta * log_likelihood - log_q,
        "kl": beta * log_prior + log_likelihood - beta * log_q,
        "none": log_prior + log_likelihood - log_q,
    }[annealing]
    return -np.log(np.exp(log_weights).mean(0)) if objective == "iwae" else -log_weights.mean(0)


@each_annealing
@each_objective
@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_formulas(annealing: str, objective: str, samples: int, beta: float) -> None:
    terms = tuple(3 * torch.randn(3, samples, 6, dtype=torch.float64))
    for weight in (beta, torch.tensor(beta)):  # the second is float32, as the training engine hands it over
        found = free_energy(
            Given(*terms),
            torch.zeros(6, 1),
            samples=samples,
            annealing=annealing,
            beta=weight,
            objective=objective,
        )
        truth = by_hand(tuple(t.numpy() for t in terms), annealing, float(weight), objective)
        np.testing.assert_allclose(found.loss.numpy(), truth, rtol=1e-12, atol=1e-12)
        for ours, term in zip((found.log_q, found.log_prior, found.log_likelihood), terms, strict=True):
            torch.testing.assert_close(ours, term.mean(0))
        torch.testing.assert_close(found.value, (terms[0] - terms[1] - terms[2]).mean(0))


def test_importance_weighted_bound_survives_extreme_weights() -> None:
    log_likelihood = torch.tensor([[-1e4, 1e4], [-1e4 - 1, -1e4]], dtype=torch.float64)
    zero = torch.zeros_like(log_likelihood)
    loss = free_energy(Given(zero, zero, log_likelihood), torch.zeros(2, 1), samples=2, objective="iwae").loss
    expected = [1e4 + math.log(2) - math.log1p(math.exp(-1)), -1e4 + math.log(2)]
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64))


def dlgm(*latents: int) -> DLGM:
    """A DLGM of 3 pixels in float64, its flow far from the identity."""
    flow = partial(Planar, length=2, init="normal")
    return DLGM(3, latents, flow, maxout=(4, 2)).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randint(2, (4, 3), dtype=torch.float64)


@each_annealing
@pytest.mark.parametrize("latents", [(2,), (2, 1)])
def test_one_importance_weighted_sample_is_the_elbo(x: Tensor, annealing: str, latents: tuple[int, ...]) -> None:
    model, noise = dlgm(*latents), torch.randn(1, 4, sum(latents), dtype=torch.float64)
    loss = partial(free_energy, model, x, annealing=annealing, beta=0.4, noise=noise)
    torch.testing.assert_close(loss(objective="iwae").loss, loss(objective="elbo").loss)


def test_of_a_model_by_hand(x: Tensor) -> None:
    model, noise = dlgm(2, 1), torch.randn(5, 4, 3, dtype=torch.float64)
    z, log_q = model.posterior(x).push(noise)
    terms = tuple(t.detach().numpy() for t in (log_q, model.log_prior(z), model.log_likelihood(x, z)))
    for annealing in ("joint", "kl", "none"):
        for objective in ("elbo", "iwae"):
            options = {"annealing": annealing, "beta": 0.4, "objective": objective}
            found = free_energy(model, x, samples=5, noise=noise, **options).loss.detach().numpy()
            np.testing.assert_allclose(found, by_hand(terms, *options.values()), rtol=1e-12)


def test_own_noise_is_the_seeds(x: Tensor) -> None:
    model = dlgm(2)
    torch.manual_seed(4)
    noise = torch.randn(3, 4, 2, dtype=torch.float64)
    torch.manual_seed(4)
    drawn = free_energy(model, x, samples=3)
    assert torch.equal(drawn.loss, free_energy(model, x, samples=3, noise=noise).loss)


@each_objective
def test_the_noise_says_how_many_samples_there_are(x: Tensor, objective: str) -> None:
    model, noise = dlgm(2), torch.randn(8, 4, 2, dtype=torch.float64)
    loss = partial(free_energy, model, x, noise=noise, objective=objective)
    assert torch.equal(loss().loss, loss(samples=8).loss)


def test_jensen_sample_by_sample(x: Tensor) -> None:
    model, noise = dlgm(2), torch.randn(8, 4, 2, dtype=torch.float64)
    tight, loose = (free_energy(model, x, samples=8, noise=noise, objective=o).loss for o in ("iwae", "elbo"))
    assert (tight < loose).all()


def moved(model: nn.Module, direction: list[Tensor], step: float) -> None:
    with torch.no_grad():
        for parameter, part in zip(model.parameters(), direction, strict=True):
            parameter.add_(part, alpha=step)


@each_objective
@pytest.mark.parametrize("latents", [(2,), (2, 1)])
def test_gradient_is_the_finite_difference(x: Tensor, objective: str, latents: tuple[int, ...]) -> None:
    model, noise = dlgm(*latents), torch.randn(3, 4, sum(latents), dtype=torch.float64)

    def loss() -> Tensor:
        terms = free_energy(model, x, samples=3, noise=noise, annealing="joint", beta=0.6, objective=objective)
        return terms.loss.sum()

    gradient = torch.autograd.grad(loss(), list(model.parameters()))
    step = 1e-6
    for _ in range(5):
        direction = [torch.randn_like(p) for p in model.parameters()]
        slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True))
        moved(model, direction, step)
        high = loss().item()
        moved(model, direction, -2 * step)
        low = loss().item()
        moved(model, direction, step)
        assert (high - low) / (2 * step) == pytest.approx(slope.item(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annealing": "KL"}, "annealing = 'KL': allowed are joint, kl, none"),
        ({"objective": "IWAE"}, "objective = 'IWAE': allowed are elbo, iwae"),
    ],
)
def test_unknown_words_are_refused_not_taken_for_another(x: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        free_energy(dlgm(2), x, beta=0.5, **options)


def test_batches_of_any_shape(x: Tensor) -> None:
    model = dlgm(2, 1)
    for shape in ((3,), (2, 2, 3)):
        assert free_energy(model, x.flatten()[: math.prod(shape)].reshape(shape), samples=2).loss.shape == shape[:-1]
