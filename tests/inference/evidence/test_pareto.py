"""k̂: of tails whose index is known, streamed or at once, and where there is no tail to speak of."""

from __future__ import annotations

import math

import pytest
import torch
from arviz_stats.base import array_stats
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import StudentT

from flowvi.evidence import k_hat_limit, pareto_k_hat
from flowvi.inference.evidence.pareto import Tail, tail_size


def pareto(k: float, samples: int, batch: int = 1) -> Tensor:
    """Log weights with P(w > y) = y^(−1/k)."""
    return -k * torch.rand(samples, batch, dtype=torch.float64).log()


def test_arviz_stats_negates_what_it_is_given() -> None:
    """The trap: heavy weights look light to `psislw` unless their logarithms are negated first."""
    log_weights = pareto(0.9, 10_000)[:, 0].numpy()
    assert float(array_stats.psislw(-log_weights)[1]) == pytest.approx(0.9, abs=0.2)
    assert float(array_stats.psislw(log_weights)[1]) < 0


@pytest.mark.parametrize("k", [0.1, 0.3, 0.5, 0.7, 1.0, 2.0])
def test_tails_of_a_known_index(k: float) -> None:
    """The fit's standard error is about (1 + k)/√M; its prior draws towards ½ by 10 weights of M."""
    samples = 1_000_000
    found = pareto_k_hat(pareto(k, samples, 4))
    assert found.shape == (4,) and found.dtype == torch.float64
    error = (1 + k) / tail_size(samples) ** 0.5
    assert (found - k).abs().max() < 4 * error
    assert abs(found.mean() - k) < 2.5 * error / 2 + 0.01


@pytest.mark.parametrize(("target", "proposal", "k"), [(2.0, 3.0, 1 / 3), (1.0, 3.0, 2 / 3), (1.0, 5.0, 0.8)])
def test_ratios_of_students_t(target: float, proposal: float, k: float) -> None:
    """With ν_q > ν_p the weights have k = 1 − ν_p/ν_q: w ~ |x|^(ν_q − ν_p) and P(|x| > t) ~ t^(−ν_q)."""
    q, p = (StudentT(torch.tensor(df, dtype=torch.float64)) for df in (proposal, target))
    x = q.sample((1_000_000, 4))
    assert pareto_k_hat(p.log_prob(x) - q.log_prob(x)).mean() == pytest.approx(k, abs=0.05)
    x = p.sample((1_000_000, 4))  # the other way round the weights are bounded
    assert pareto_k_hat(q.log_prob(x) - p.log_prob(x)).mean() < 0.1


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.integers(25, 3000), st.integers(1, 400), st.floats(0.1, 20), st.floats(-1e3, 1e3))
def test_any_chunks_give_what_the_library_gives_all_weights(
    samples: int, chunk: int, scale: float, level: float
) -> None:
    torch.manual_seed(samples)
    log_weights = level + scale * torch.randn(samples, 2, dtype=torch.float64)
    tail = Tail(samples)
    for rows in log_weights.split(chunk):
        tail.add(rows)
    expected = [float(array_stats.psislw(-column)[1]) for column in log_weights.T.numpy()]
    assert tail.k_hat().tolist() == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("samples", [25, 224, 225, 226, 227, 256, 400, 841, 3364, 10_000, 250_000])
def test_the_tail_is_as_large_as_the_paper_has_it(samples: int) -> None:
    expected = samples / 5 if samples <= 225 else 3 * samples**0.5
    assert tail_size(samples) == math.floor(expected)
    log_weights = torch.randn(samples, 1, dtype=torch.float64)
    whole = float(array_stats.psislw(-log_weights[:, 0].numpy())[1])
    assert pareto_k_hat(log_weights).item() == pytest.approx(whole, rel=1e-6)
    body = log_weights.sort(0, descending=True).values
    body[tail_size(samples) + 1 :] = -50.0  # only the tail and the one below it count
    assert pareto_k_hat(body).item() == pytest.approx(whole, rel=1e-6)


def test_memory_is_bounded() -> None:
    samples = 10_000_000
    tail, most = Tail(samples), 0
    for _ in range(100):
        tail.add(pareto(0.5, samples // 100))
        most = max(most, sum(map(len, tail._parts)))
    assert most <= 2 * (tail_size(samples) + 2)
    assert tail.k_hat().item() == pytest.approx(0.5, abs=4 * 1.5 / tail_size(samples) ** 0.5)


@pytest.mark.parametrize("scale", [400.0, 1e3, 1e4])
def test_one_weight_beside_which_all_are_nought_is_never_a_good_tail(scale: float) -> None:
    """There the library's own answer is 5/(M + 10), as if the tail were light."""
    log_weights = scale * torch.randn(1000, 3, dtype=torch.float64)
    assert (pareto_k_hat(log_weights) > 10).all()


def test_where_there_is_no_tail() -> None:
    log_weights = torch.randn(1000, 6, dtype=torch.float64)
    log_weights[:, 0] = -3.0
    log_weights[:, 1] = -math.inf
    log_weights[7, 2] = math.nan
    log_weights[7, 3] = math.inf
    log_weights[:950, 4] = -math.inf  # fewer weights above nought than the tail would have
    found = pareto_k_hat(log_weights)
    assert found[0] == -math.inf
    assert found.isnan().tolist() == [False, True, True, True, False, False]
    assert found[4] == math.inf
    assert found[5].isfinite()
    assert pareto_k_hat(torch.randn(24, 1)).isnan().all()
    assert pareto_k_hat(torch.randn(25, 1)).isfinite().all()


def test_the_limit() -> None:
    assert k_hat_limit(200) == pytest.approx(0.565, abs=5e-4)
    assert k_hat_limit(100) == pytest.approx(0.5)
    assert k_hat_limit(10**4) == k_hat_limit(10**7) == 0.7
    assert k_hat_limit(1) == -math.inf


def test_shapes() -> None:
    log_weights = torch.randn(100, 2, 3)
    found = pareto_k_hat(log_weights)
    assert found.shape == (2, 3)
    assert found[1, 2] == pareto_k_hat(log_weights[:, 1, 2])
    assert found[1, 2].shape == pareto_k_hat(log_weights[:, 1, 2]).shape == ()
