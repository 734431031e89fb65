"""What a fit is made of, each part against what is known exactly: modes, mixtures, tails, weights, probes, verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, StudentT

from flowvi.flows import Planar, RealNVP
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.effort import EFFORTS
from flowvi.inference.fitting.joint import Joint
from flowvi.inference.fitting.located import Located
from flowvi.inference.fitting.mixture import Mixture, adapt, likely, tails
from flowvi.inference.fitting.modes import find_modes, laplace, merged
from flowvi.inference.fitting.probes import Chains, Measured, Missed, far_mass, missed_modes, run_chains
from flowvi.inference.fitting.rebased import Rebased
from flowvi.inference.fitting.search import Search
from flowvi.inference.fitting.verdict import LABELS, judge
from flowvi.inference.fitting.weights import Weighed, weigh
from flowvi.inference.targets import TARGETS

PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def gaussian(mean: Tensor, covariance: Tensor, log_z: float = 0.0) -> Density:
    """A Gaussian of mass e^log_z."""
    log_p = MultivariateNormal(mean, covariance).log_prob
    return Density(lambda z: log_p(z) + log_z, Joint.of(len(mean)))


def named(name: str) -> Density:
    target = TARGETS[name]
    return Density(target.log_density, Joint.of(target.supports or target.dim))


def located(flow: Any, dim: int) -> Located:
    return Located(flow, torch.zeros(dim), torch.eye(dim))


@PRECISIONS
def test_the_mode_of_a_gaussian_and_its_mass(dtype: torch.dtype) -> None:
    mean = torch.tensor([3.0, -200.0], dtype=dtype)
    covariance = torch.tensor([[4.0, 0.19], [0.19, 0.01]], dtype=dtype)
    torch.manual_seed(0)
    (mode,) = find_modes(gaussian(mean, covariance, 1.7), 5 * torch.randn(16, 2, dtype=dtype), 8, steps=200)
    assert mode.starts == 16 and mode.log_mass == pytest.approx(1.7, abs=1e-2)
    torch.testing.assert_close(mode.mean, mean, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(mode.scale @ mode.scale.mT, covariance, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in TARGETS if name.startswith("mixture")])
def test_all_modes_of_the_mixtures_are_found_and_weighed(name: str) -> None:
    target, density = TARGETS[name], named(name)
    torch.manual_seed(1)
    modes = find_modes(density, 5 * torch.randn(64, target.dim), 32)
    assert len(likely(modes)) == len(target.modes)
    found = adapt(density, modes, 15, 5_000)
    draws = found().sample((20_000,))
    for mode in target.modes.values():
        assert mode.contains(draws).double().mean() == pytest.approx(mode.mass, abs=0.02)


@pytest.mark.parametrize("few", [2, 7])
def test_modes_that_broad_starts_missed_are_found_from_those_they_met(few: int) -> None:
    target, density = TARGETS["mixture_2_modes_8_far"], named("mixture_2_modes_8_far")
    torch.manual_seed(0)
    search = Search(density, EFFORTS["fast"], [])
    search.modes = find_modes(density, 5 * torch.randn(64, target.dim), 32)[:few]
    assert len(search.modes) == few
    search._more_modes()
    assert len(likely(search.modes)) == len(target.modes) == 8
    assert search.starts is not None and len(search.starts) >= 128


def test_modes_of_no_finite_width_are_looked_for_no_farther() -> None:
    target = TARGETS["mixture_2_modes_2_close"]

    def strict(z: Tensor) -> Tensor:
        if not z.isfinite().all():
            raise ValueError
        return target.log_density(z)

    density = Density(strict, Joint.of(2))
    search = Search(density, EFFORTS["fast"], [])
    search.modes = [replace(laplace(density, torch.tensor([x, 0.0]), 0.0), log_mass=0.0) for x in (-2.0, 2.0)]
    search.modes[1] = replace(search.modes[1], scale=torch.full((2, 2), math.inf).tril())
    search._more_modes()
    assert len(search.modes) == 2 and search.starts is None


def test_a_start_in_a_flat_place_or_on_a_cliff_stays_there() -> None:
    modes = find_modes(Density(lambda z: 0 * z.sum(-1), Joint.of(2)), torch.zeros(1, 2), 8)
    assert len(modes) == 1 and torch.equal(modes[0].mean, torch.zeros(2))
    walled = Density(lambda z: torch.where(z[:, 0] > 0, -z.sum(-1), -math.inf), Joint.of(2))
    (mode,) = find_modes(walled, torch.tensor([[0.5, 0.5]]), 8, steps=20)
    assert mode.mean[0] > 0 and math.isfinite(mode.log_mass)


def test_near_modes_are_one() -> None:
    density = gaussian(torch.zeros(2), torch.eye(2))
    one, other = (laplace(density, at, 0.0) for at in (torch.zeros(2), torch.tensor([1.9, 0.0])))
    far = laplace(density, torch.tensor([2.1, 0.0]), 0.0)
    assert [mode.starts for mode in merged([one, other])] == [2]
    assert len(merged([one, far])) == 2


@PRECISIONS
@pytest.mark.parametrize("degrees", [math.inf, 3.0])
def test_a_mixtures_density_and_draws(dtype: torch.dtype, degrees: float) -> None:
    weights = torch.tensor([0.2, 0.8], dtype=dtype)
    q = Mixture(weights, torch.tensor([[-3.0], [2.0]], dtype=dtype), torch.ones(2, 1, 1, dtype=dtype), degrees)()
    grid = torch.linspace(-400, 400, 800_001, dtype=dtype)[:, None]
    assert torch.trapezoid(q.log_prob(grid).double().exp(), grid[:, 0].double()) == pytest.approx(1, abs=1e-3)
    torch.manual_seed(0)
    draws = q.sample((40_000,))
    assert draws.dtype == dtype and (draws < -0.5).double().mean() == pytest.approx(_below(degrees), abs=0.01)
    assert q.sample((0,)).shape == (0, 1) and q.sample((2, 3)).shape == (2, 3, 1)


def _below(degrees: float) -> float:
    """The mass of that mixture below −0.5."""
    unit = torch.distributions.Normal(0.0, 1.0) if math.isinf(degrees) else None
    if unit:
        return float(0.2 * unit.cdf(torch.tensor(2.5)) + 0.8 * unit.cdf(torch.tensor(-2.5)))
    x = torch.linspace(2.5, 4000, 4_000_001, dtype=torch.float64)
    tail = float(torch.trapezoid(StudentT(torch.tensor(degrees).double()).log_prob(x).exp(), x))
    return 0.2 * (1 - tail) + 0.8 * tail


@pytest.mark.parametrize(
    "make", [lambda: Planar(2, length=5, init="normal"), lambda: RealNVP(2, length=3, init="xavier")]
)
def test_a_flow_with_another_base(make: Any) -> None:
    torch.manual_seed(0)
    base = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), torch.eye(2).repeat(2, 1, 1), 4.0)
    q = Rebased(make(), base).double()()
    side = torch.linspace(-40, 40, 321).double()
    mass = q.log_prob(torch.cartesian_prod(side, side)).exp().sum().item() * 0.25**2
    assert mass == pytest.approx(1, abs=0.02)  # of which the tails of t have the rest
    z, log_q = q.rsample_and_log_prob((200,))
    torch.testing.assert_close(q.log_prob(z.detach()), log_q, rtol=1e-6, atol=1e-6)
    z, along = q.rsample_and_log_prob((200,), path=True)
    (slope,) = torch.autograd.grad(along.sum(), z)
    at = z.detach().requires_grad_()
    (expected,) = torch.autograd.grad(q.log_prob(at).sum(), at)
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-6)


def test_so_far_out_that_numbers_end() -> None:
    q = Located(Planar(2, length=2), torch.zeros(2), 1e-20 * torch.eye(2))()
    far = torch.tensor([[1e25, 0.0], [1e-21, 0.0], [math.nan, 0.0]])
    assert q.log_prob(far)[0] == -math.inf and q.log_prob(far)[1].isfinite() and q.log_prob(far)[2].isnan()


def test_tails_are_found_where_there_are_any() -> None:
    torch.manual_seed(0)
    degrees, factor = tails(named("student_10"), torch.ones(10), 1.5 * torch.eye(10), 5_000)
    assert degrees in (2.5, 4.0) and factor < 1
    assert tails(gaussian(torch.zeros(3), torch.eye(3)), torch.zeros(3), torch.eye(3), 5_000) == (math.inf, 1.0)


@PRECISIONS
def test_weights_of_an_exact_posterior(dtype: torch.dtype) -> None:
    module = located(Planar(2, length=2), 2).to(dtype)
    log_q = module().log_prob
    torch.manual_seed(0)
    found = weigh(module, Density(lambda z: log_q(z) + 3.0, Joint.of(2)), 20_000)
    assert found.log_evidence == pytest.approx(3, abs=4 * found.log_evidence_se + 1e-4)
    assert found.distance < 0.01 and found.lacking == 0 and found.k_hat < 0.3 and found.undefined == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_density_leaves_the_evidence_unknown(value: float) -> None:
    density = Density(lambda z: torch.where(z[:, 0] > 0, value, -z.square().sum(-1) / 2), Joint.of(1))
    found = weigh(located(Mixture.standard(torch.zeros(1)), 1), density, 2_000)
    assert found.undefined == pytest.approx(0.5, abs=0.1)


def test_weights_tell_the_total_variation_and_the_mass_that_lacks() -> None:
    """q = N(0, 1) and f = N(m, 1): TV = 2 Φ(m/2) − 1, and f > 10 q where x > m/2 + ln 10/m."""
    normal, m = torch.distributions.Normal(0.0, 1.0), 1.5
    density = gaussian(torch.tensor([m]), torch.eye(1), -2.0)
    torch.manual_seed(0)
    found = weigh(located(Mixture.standard(torch.zeros(1)), 1), density, 100_000)
    assert found.log_evidence == pytest.approx(-2, abs=0.05)
    assert found.distance == pytest.approx(2 * float(normal.cdf(torch.tensor(m / 2))) - 1, abs=0.02)
    expected = 1 - float(normal.cdf(torch.tensor(math.log(10) / m - m / 2)))
    assert found.lacking == pytest.approx(expected, abs=0.02)


def test_heavier_tails_save_the_weights() -> None:
    """A Gaussian's own weights for a t of 3 degrees have no variance; with heavier tails they are bounded."""
    density = Density(lambda z: StudentT(3.0).log_prob(z).sum(-1), Joint.of(1))
    torch.manual_seed(0)
    found = weigh(located(Mixture.standard(torch.zeros(1)), 1), density, 50_000)
    assert found.k_hat < 0.5 < found.k_hat_own
    assert found.log_evidence == pytest.approx(0, abs=5 * found.log_evidence_se)


def test_a_mode_that_is_missed() -> None:
    density = named("mixture_2_modes_2_far")
    torch.manual_seed(0)
    modes = find_modes(density, 5 * torch.randn(64, 2), 8)
    both = adapt(density, modes, 15, 5_000)
    log_z = TARGETS["mixture_2_modes_2_far"].log_z
    assert max(each.share for each in missed_modes(density, both(), log_z, modes)) < 0.01
    first = Mixture(torch.ones(1), both.means[:1], both.scales[:1])()
    shares = sorted(each.share for each in missed_modes(density, first, log_z + math.log(0.8), modes))
    assert shares[0] < 0.01 and shares[1] == pytest.approx(0.25, abs=0.05)


def test_chains_leave_a_posterior_that_is_wrong_and_stay_in_one_that_is_right() -> None:
    density = gaussian(torch.zeros(2), torch.eye(2))
    torch.manual_seed(0)
    right = run_chains(density, MultivariateNormalLike(1.0), 0.0, 256)
    assert right.chance > 1e-3 and right.gained < 0.02 and 0.5 < right.acceptance < 1
    narrow = run_chains(density, MultivariateNormalLike(0.5), 0.0, 256)
    assert narrow.chance < 1e-4 and narrow.distance > 0.1


class MultivariateNormalLike:
    """N(0, σ² I) in the plane, with the method that posteriors have."""

    def __init__(self, sigma: float) -> None:
        self.q = MultivariateNormal(torch.zeros(2), sigma**2 * torch.eye(2))
        self.log_prob = self.q.log_prob

    def rsample_and_log_prob(self, shape: Any) -> tuple[Tensor, Tensor]:
        z = self.q.sample(shape)
        return z, self.q.log_prob(z)


def test_mass_far_out() -> None:
    q = MultivariateNormalLike(1.0)
    torch.manual_seed(0)
    assert far_mass(gaussian(torch.zeros(2), torch.eye(2)), q) < -100
    cauchy = Density(lambda z: -1.5 * z.square().sum(-1).log1p(), Joint.of(2))  # in two dimensions: finite
    assert -6 < far_mass(cauchy, q) < -2
    infinite = Density(lambda z: -z.square().sum(-1).log1p(), Joint.of(2))
    assert far_mass(infinite, q) > -1


SOUND = Measured(
    draws=20_000,
    weighed=Weighed(
        log_evidence=1.0,
        log_evidence_se=0.002,
        undefined=0.0,
        effective=0.9,
        k_hat=0.3,
        k_hat_own=0.4,
        distance=0.02,
        lacking=0.0,
    ),
    missed=(),
    chains=Chains(distance=0.05, chance=0.5, gained=0.0, acceptance=0.8),
    annealed=1.001,
    annealed_se=0.01,
    far=-100.0,
    starts=64,
    region=(-10.0, 10.0),
    apart=0.0,
    interrupted=False,
)
MODE = laplace(gaussian(torch.zeros(1), torch.eye(1)), torch.zeros(1), 0.0)


def test_the_verdict_of_a_sound_fit() -> None:
    verdict = judge(SOUND)
    assert verdict.label == "trust" and len(verdict.reasons) == 1 and not verdict.advice
    assert "0.02" in verdict.reasons[0] and "64 optimisations" in verdict.reasons[0]


def test_a_thin_tail_that_does_not_matter_is_said() -> None:
    verdict = judge(replace(SOUND, weighed=replace(SOUND.weighed, k_hat=0.9, lacking=0.003)))
    assert verdict.label == "trust" and "0.3 % of the mass is too thin (k̂ 0.90)" in verdict.reasons[1]


def test_a_thin_tail_is_one_reason_more_where_probabilities_are_off() -> None:
    verdict = judge(replace(SOUND, weighed=replace(SOUND.weighed, k_hat=1.2, lacking=0.003, distance=0.2)))
    assert verdict.label == "do not trust" and len(verdict.reasons) == 2 and "too heavy a tail" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("change", "label", "words"),
    [
        ({"weighed": {"k_hat": 0.8, "lacking": 0.01}}, 1, "too heavy a tail"),
        ({"weighed": {"k_hat": 1.2, "lacking": 0.02}}, 2, "too heavy a tail"),
        ({"weighed": {"k_hat": math.nan, "lacking": math.nan}}, 2, "too heavy a tail"),
        ({"weighed": {"effective": 0.001}}, 1, "are effective"),
        ({"weighed": {"distance": 0.2}}, 1, "off by 0.20"),
        ({"weighed": {"distance": 0.6}}, 2, "off by 0.60"),
        ({"weighed": {"lacking": 0.2}}, 2, "less than a tenth"),
        ({"weighed": {"undefined": 0.1}}, 1, "NaN or +inf at 10 %"),
        ({"weighed": {"log_evidence": -math.inf}}, 2, "nowhere finite"),
        ({"missed": (Missed(MODE, 0.25),)}, 2, "misses a mode with about 20 %"),
        ({"missed": (Missed(MODE, math.inf),)}, 2, "misses a mode with about 100 %"),
        ({"missed": (Missed(MODE, 0.5), Missed(MODE, 0.5))}, 2, "misses 2 modes with about 50 %"),
        ({"chains": Chains(distance=0.1, chance=1e-6, gained=0.0, acceptance=0.8)}, 1, "leave them"),
        ({"chains": Chains(distance=0.4, chance=0.0, gained=0.0, acceptance=0.8)}, 2, "leave them"),
        ({"chains": Chains(distance=0.05, chance=0.5, gained=0.1, acceptance=0.8)}, 1, "10 % of these chains"),
        ({"annealed": 1.5}, 1, "disagree"),
        ({"annealed": math.nan}, 1, "disagree"),
        ({"far": 0.0}, 2, "integral"),
        ({"interrupted": True}, 1, "interrupted"),
        ({"apart": 1.0}, 1, "different starts"),
    ],
)
def test_each_reason_not_to_trust(change: dict[str, Any], label: int, words: str) -> None:
    if "weighed" in change:
        change = {"weighed": replace(SOUND.weighed, **change["weighed"])}
    verdict = judge(replace(SOUND, **change))
    assert verdict.label == LABELS[label] and len(verdict.reasons) == 1 and len(verdict.advice) == 1
    assert words in verdict.reasons[0] and verdict.reasons[0].endswith(".")


def test_the_worst_reason_comes_first() -> None:
    verdict = judge(replace(SOUND, far=0.0, interrupted=True, apart=1.0))
    assert verdict.label == "do not trust" and "integral" in verdict.reasons[0] and len(verdict.reasons) == 3
