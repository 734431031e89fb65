"""Annealed importance sampling: E[w] = Z on models whose evidence is known, whatever the start and the precision.

Replicates lie along the batch: one datum repeated R times gives R independent estimates.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from flowvi.errors import ConfigError, NonFiniteError, ShapeError
from flowvi.evidence import Annealed, Settings, annealed_importance_sampling, sigmoid_schedule
from flowvi.inference.evidence.pilot import Steps

QUICK = {"distributions": 20, "leapfrog": 3}


def standard(normal: Any, like: Tensor, features: int) -> Any:
    return normal(torch.zeros(*like.shape[:-1], features, dtype=like.dtype))


def anneal(model: Any, x: Tensor, initial: Any, **options: Any) -> Annealed:
    return annealed_importance_sampling(lambda z: model.log_joint(x, z), initial, **options)


def check_unbiased(log_weights: Tensor, truth: Tensor, most: float) -> None:
    """E[w]/Z = 1, over chains and replicates, with a standard error below `most`."""
    ratio = (log_weights - truth).exp().mean(0)  # the chains of a replicate share its pilot's steps
    error = (ratio.std() / len(ratio) ** 0.5).item()
    assert abs(ratio.mean().item() - 1) < 4 * error and error < most


def single(model: Any) -> Any:
    """The model in float32."""
    model.w = model.w.float()
    return model


@pytest.mark.parametrize("features", [1, 2, 10])
@pytest.mark.parametrize("begin", ["prior", "posterior"])
def test_weights_are_unbiased(linear_gaussian: Any, normal: Any, dtype: torch.dtype, features: int, begin: str) -> None:
    model = linear_gaussian(latents=features, features=3, sigma=1.0)
    x = model.data(1)
    truth, exact = model.log_evidence(x), model.exact_posterior(x)
    x = x.expand(200, -1).to(dtype)
    model = single(model) if dtype == torch.float32 else model
    wrong = normal((exact.loc + 0.3).to(dtype).expand(200, -1), 1.3 * exact.variance.sqrt().to(dtype))
    initial = standard(normal, x, features) if begin == "prior" else wrong
    found = anneal(model, x, initial, chains=4, **QUICK)
    assert found.log_weights.shape == (4, 200) and found.states.shape == (4, 200, features)
    assert found.log_weights.dtype == found.log_evidence.dtype == torch.float64 and found.states.dtype == dtype
    check_unbiased(found.log_weights, truth, 0.15 if features == 10 else 0.06)
    assert found.log_evidence_se.shape == found.acceptance.shape == (200,)
    assert 0.4 < found.acceptance.mean() < 0.9


def hostile(linear_gaussian: Any, features: int) -> Any:
    """A posterior whose precision has eigenvalues from 1 to 1e4, along directions of no axis."""
    model = linear_gaussian(latents=features, features=features + 1, sigma=0.7)
    u, _, v = torch.linalg.svd(model.w, full_matrices=False)
    precision = torch.logspace(4, 0, features, dtype=torch.float64)
    model.w = model.sigma * (u * (precision - 1).sqrt()) @ v
    return model


def test_a_condition_number_of_1e4(linear_gaussian: Any, normal: Any, dtype: torch.dtype) -> None:
    model = hostile(linear_gaussian, 2)
    x = model.data(1)
    truth = model.log_evidence(x)
    x = x.expand(100, -1).to(dtype)
    model = single(model) if dtype == torch.float32 else model
    schedule = partial(sigmoid_schedule, steepness=10.0)
    found = anneal(model, x, standard(normal, x, 2), distributions=150, chains=4, leapfrog=4, schedule=schedule)
    check_unbiased(found.log_weights, truth, 0.25)
    assert 0.4 < found.acceptance.mean() < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("features", [2, 10])
def test_a_condition_number_of_1e4_at_length(linear_gaussian: Any, normal: Any, features: int) -> None:
    model = hostile(linear_gaussian, features)
    x = model.data(1).expand(20, -1)
    schedule = partial(sigmoid_schedule, steepness=10.0)
    found = anneal(model, x, standard(normal, x, features), distributions=600, leapfrog=5, schedule=schedule)
    off = found.log_evidence - model.log_evidence(x)
    assert (off < 4 * found.log_evidence_se + 1).all()  # far above is all but impossible
    assert abs(off.median()) < (0.3 if features == 2 else 2.0)


def coverage(linear_gaussian: Any, normal: Any, repeats: int) -> tuple[float, Annealed, Tensor]:
    model = linear_gaussian(latents=2, features=3, sigma=1.0)
    x = model.data(1).expand(repeats, -1)
    found = anneal(model, x, standard(normal, x, 2), distributions=100, leapfrog=3)
    off = found.log_evidence - model.log_evidence(x)
    return (off.abs() < 2 * found.log_evidence_se).double().mean().item(), found, off


def test_two_errors_cover_the_truth(linear_gaussian: Any, normal: Any) -> None:
    """In 100 repeats of 16 chains; Student's t of 15 degrees of freedom has 93.6 % there, ± 3·2.4 %."""
    share, found, off = coverage(linear_gaussian, normal, 100)
    assert share >= 0.86
    assert abs(off.mean()) < 4 * off.std() / 10 + 0.01
    assert off.std().item() == pytest.approx(found.log_evidence_se.square().mean().sqrt().item(), rel=0.35)
    assert (found.effective_chains > 8).all()


@pytest.mark.slow
def test_two_errors_cover_the_truth_in_many_repeats(linear_gaussian: Any, normal: Any) -> None:
    share, found, off = coverage(linear_gaussian, normal, 2000)
    assert 0.90 < share < 0.955
    stated = found.log_evidence_se.square().mean().sqrt().item()
    assert off.std().item() == pytest.approx(stated, rel=0.1)
    assert off.mean().item() == pytest.approx(-(stated**2) / 2, abs=4 * stated / 2000**0.5)  # E[ln Ẑ] − ln Z


def test_one_distribution_is_importance_sampling(linear_gaussian: Any, normal: Any) -> None:
    model = linear_gaussian()
    x = model.data(6)
    initial = standard(normal, x, 3)
    found = anneal(model, x, initial, distributions=1, chains=5)
    torch.testing.assert_close(found.log_weights, model.log_joint(x, found.states) - initial.log_prob(found.states))
    assert found.acceptance.isnan().all()


def test_a_constant_factor_is_found_exactly(normal: Any) -> None:
    q = normal(torch.tensor([[0.0], [3.0], [-1e3]]).double(), torch.tensor([[1.0], [1e-3], [1e3]]).double())
    level = torch.tensor([5.0, -1e4, 1e4]).double()
    found = annealed_importance_sampling(lambda z: q.log_prob(z) + level, q, chains=3, **QUICK)
    torch.testing.assert_close(found.log_weights, level.expand(3, 3), rtol=1e-12, atol=1e-9)
    assert (found.log_evidence_se < 1e-6).all()


def test_the_sum_along_the_path(normal: Any) -> None:
    """With the chains all but at rest each increment is (β_t − β_{t−1}) times the same difference."""
    q, f = normal(torch.zeros(4, 1).double()), normal(torch.ones(4, 1).double(), 2.0)
    betas = [0.0, 0.1, 0.7, 1.0]
    found = annealed_importance_sampling(
        f.log_prob, q, distributions=3, chains=6, step_size=1e-9, schedule=lambda count: betas
    )
    torch.testing.assert_close(
        found.log_weights, f.log_prob(found.states) - q.log_prob(found.states), rtol=1e-6, atol=1e-6
    )
    assert (found.acceptance > 0.999).all()


def test_more_distributions_are_better(linear_gaussian: Any, normal: Any) -> None:
    model = linear_gaussian(latents=2, features=3)
    x = model.data(1).expand(100, -1)
    spreads = [
        anneal(model, x, standard(normal, x, 2), distributions=n, leapfrog=3).log_weights.std(0).median().item()
        for n in (5, 20, 80)
    ]
    assert spreads[0] > 1.5 * spreads[1] > 2 * spreads[2]


def test_final_states_with_their_weights_are_draws_of_the_target(linear_gaussian: Any, normal: Any) -> None:
    model = linear_gaussian(latents=2, features=3, sigma=1.0)
    x = model.data(1).expand(100, -1)
    found = anneal(model, x, standard(normal, x, 2), distributions=60, leapfrog=3)
    weights = (found.log_weights - found.log_weights.max()).exp()[..., None]
    means = (weights * found.states).sum(0) / weights.sum(0)
    exact = model.exact_posterior(x)
    assert ((means.mean(0) - exact.loc[0]).abs() < 4 * means.std(0) / 10 + 0.01).all()
    spread = ((weights * (found.states - exact.loc).square()).sum((0, 1)) / weights.sum((0, 1))) / exact.variance[0]
    assert ((spread - 1).abs() < 0.15).all()


def test_each_datum_finds_its_own_steps(normal: Any) -> None:
    """Targets a millionfold apart in scale, beside one another, and scales that differ by dimension."""
    scale = torch.tensor([[1e-3, 1e-3], [1.0, 1.0], [1e3, 1e3], [1e-2, 1e2]]).double()
    q, f = normal(torch.zeros(4, 2).double(), scale), normal(0.5 * scale, 0.7 * scale)
    found = annealed_importance_sampling(f.log_prob, q, distributions=200, chains=16, leapfrog=5)
    assert ((found.acceptance - 0.65).abs() < 0.15).all()
    assert (found.log_evidence.abs() < 5 * found.log_evidence_se).all()
    assert (found.log_evidence_se < 0.1).all()


@pytest.mark.parametrize("acceptance", [0.4, 0.65, 0.9])
def test_the_acceptance_is_what_was_asked_for(linear_gaussian: Any, normal: Any, acceptance: float) -> None:
    model = linear_gaussian(latents=10, features=12, sigma=1.0)
    x = model.data(30)
    found = anneal(model, x, standard(normal, x, 10), distributions=100, leapfrog=3, acceptance=acceptance)
    assert found.acceptance.mean().item() == pytest.approx(acceptance, abs=0.08)


@pytest.mark.parametrize("value", [-math.inf, math.nan])
def test_where_the_target_is_nought_a_chain_has_no_weight(normal: Any, value: float) -> None:
    """f* = N(0, 1) on z > 0 and nothing below: Z = ½, and half of the chains are lost."""
    q = normal(torch.zeros(500, 1).double())
    found = annealed_importance_sampling(
        lambda z: torch.where(z[..., 0] > 0, q.log_prob(z), value), q, chains=10, **QUICK
    )
    lost = found.lost.double()
    assert abs(lost.mean() - 5) < 4 * lost.std() / 500**0.5
    check_unbiased(found.log_weights, torch.tensor(math.log(0.5)), 0.05)
    assert found.log_weights[found.log_weights > -math.inf].abs().max() < 1e-9  # as f* = q where it is not nought
    assert torch.equal(found.lost, (found.log_weights == -math.inf).sum(0))


@pytest.mark.parametrize("value", [-math.inf, math.nan, math.inf])
def test_no_density_anywhere_is_refused(normal: Any, value: float) -> None:
    q = normal(torch.zeros(3, 1).double())
    with pytest.raises(NonFiniteError, match="target's log density is −inf or NaN wherever"):
        annealed_importance_sampling(lambda z: q.log_prob(z) * 0 + value, q, **QUICK)


def test_an_initial_distribution_without_a_density_is_refused(normal: Any) -> None:
    class Broken(normal):
        def log_prob(self, z: Tensor) -> Tensor:
            return super().log_prob(z) + math.nan

    with pytest.raises(NonFiniteError, match="initial distribution's log density is not finite"):
        annealed_importance_sampling(normal(torch.zeros(3, 1)).log_prob, Broken(torch.zeros(3, 1)), **QUICK)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_shapes(normal: Any, batch: tuple[int, ...]) -> None:
    q, f = normal(torch.zeros(*batch, 2)), normal(torch.ones(*batch, 2))
    found = annealed_importance_sampling(lambda z: f.log_prob(z), q, distributions=3, chains=5, leapfrog=2)
    assert found.log_weights.shape == (5, *batch) and found.states.shape == (5, *batch, 2)
    for values in (found.log_evidence, found.log_evidence_se, found.effective_chains, found.lost, found.acceptance):
        assert values.shape == batch
    with pytest.raises(ShapeError, match="target log density"):
        annealed_importance_sampling(lambda z: f.log_prob(z).sum(), q, **QUICK)


def test_one_seed_gives_one_answer(normal: Any) -> None:
    q, f = normal(torch.zeros(3, 2)), normal(torch.ones(3, 2))

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return annealed_importance_sampling(f.log_prob, q, **QUICK).log_weights

    first, again, other = run(0), run(0), run(1)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_flows_as_the_initial_distribution(linear_gaussian: Any) -> None:
    """Through a planar flow's exact inverse; no gradient is left behind anywhere."""
    from flowvi.flows import Planar

    torch.manual_seed(5)
    flow = Planar(features=2, length=2, init="normal").double()
    model = linear_gaussian(latents=2, features=2, sigma=1.0, flow=flow)
    x = model.data(1).expand(60, -1)
    found = anneal(model, x, model.posterior(x), chains=4, distributions=10, leapfrog=2)
    check_unbiased(found.log_weights, model.log_evidence(x), 0.3)
    assert not found.log_weights.requires_grad and not found.states.requires_grad
    assert all(parameter.grad is None for parameter in flow.parameters())


def test_the_schedule() -> None:
    betas = sigmoid_schedule(1000)
    assert len(betas) == 1001 and betas[0] == 0 and betas[-1] == 1
    steps = [b - a for a, b in pairwise(betas)]
    assert min(steps) > 0
    assert steps[0] < 0.1 * steps[500]  # dense at the ends
    sigmoid = [1 / (1 + math.exp(-4.0 * (2 * t / 1000 - 1))) for t in range(1001)]
    expected = [(s - sigmoid[0]) / (sigmoid[-1] - sigmoid[0]) for s in sigmoid]
    assert betas == pytest.approx(expected, abs=1e-12)
    assert sigmoid_schedule(1) == [0, 1]


def test_steps_between_their_places() -> None:
    steps = Steps(torch.tensor([0.0, 1.0, 3.0])[:, None])
    for share, expected in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 2.0), (1.0, 3.0)):
        assert steps.at(share).log().item() == pytest.approx(expected, abs=1e-6)
    constant = Steps.constant(0.3, torch.zeros(7, 4, 2))
    assert constant.at(0.4).shape == (4, 2) and constant.at(1.0)[0, 0].item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"distributions": 0}, "distributions = 0: expected at least 1"),
        ({"chains": -1}, "chains = -1"),
        ({"leapfrog": 0}, "leapfrog = 0"),
        ({"acceptance": 1.0}, "acceptance = 1.0: expected between 0 and 1"),
        ({"step_size": 0.0}, "step_size = 0.0: expected above 0"),
        ({"chain": 3}, "chain is no setting: allowed are distributions, chains,"),
        ({"settings": Settings(), "chains": 3}, "not both"),
    ],
)
def test_what_cannot_be_annealed(normal: Any, options: dict[str, Any], says: str) -> None:
    q = normal(torch.zeros(3, 1))
    with pytest.raises(ConfigError, match=says):
        annealed_importance_sampling(q.log_prob, q, **options)
