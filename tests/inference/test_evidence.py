"""Streaming of importance weights: the numbers of all weights at once, whatever the chunks and weights."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowvi.errors import ConfigError
from flowvi.inference import Evidence, importance_sampling


class Fixed:
    """A "posterior" that deals out given log weights, (S, batch), in order; ln q is `offset`."""

    def __init__(self, log_weights: Tensor, offset: float = 0.0) -> None:
        self.log_weights, self.offset = log_weights, offset
        self.batch_shape = log_weights.shape[1:]
        self.chunks: list[int] = []

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        (n,) = sample_shape
        start = sum(self.chunks)
        self.chunks.append(n)
        z = self.log_weights[start : start + n]
        assert len(z) == n
        return z[..., None], torch.full_like(z, self.offset)


def stream(log_weights: Tensor, rows: int = 5000, offset: float = 0.0) -> Evidence:
    return importance_sampling(lambda z: z[..., 0] + offset, Fixed(log_weights, offset), len(log_weights), rows)


def truth(column: list[float]) -> tuple[float, float, float]:
    """F, ln p̂ and the effective sample size of finite or −inf log weights, in multiple precision."""
    finite = [mpmath.mpf(w) for w in column if w != -math.inf]
    top = max(finite)
    total = mpmath.fsum(mpmath.exp(w - top) for w in finite)
    squares = mpmath.fsum(mpmath.exp(2 * (w - top)) for w in finite)
    free = -mpmath.fsum(finite) / len(column) if len(finite) == len(column) else mpmath.inf
    return float(free), float(top + mpmath.log(total / len(column))), float(total**2 / squares)


def check(found: Evidence, log_weights: Tensor) -> None:
    assert found.free_energy.dtype == found.log_evidence.dtype == found.effective_samples.dtype == torch.float64
    for i, column in enumerate(log_weights.T.tolist()):
        free, evidence, effective = truth(column)
        assert found.free_energy[i].item() == pytest.approx(free, rel=1e-12, abs=1e-12)
        assert found.log_evidence[i].item() == pytest.approx(evidence, rel=1e-12, abs=1e-12)
        assert found.effective_samples[i].item() == pytest.approx(effective, rel=1e-9)


@pytest.mark.parametrize("rows", [1, 3, 7, 21, 64, 5000])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_streaming_equals_all_weights_at_once(rows: int, scale: float) -> None:
    log_weights = scale * torch.randn(50, 3, dtype=torch.float64)
    check(stream(log_weights, rows), log_weights)


columns = st.lists(st.floats(-1e4, 1e4) | st.just(-math.inf), min_size=1, max_size=30).filter(
    lambda column: max(column) > -math.inf
)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(columns, st.integers(1, 40))
def test_any_finite_or_zero_weights(column: list[float], rows: int) -> None:
    log_weights = torch.tensor(column, dtype=torch.float64)[:, None]
    found = stream(log_weights, rows)
    check(found, log_weights)
    assert 1 - 1e-9 <= found.effective_samples.item() <= len(column) * (1 + 1e-9)
    assert found.kl.item() >= -1e-8  # Jensen
    finite = [w for w in column if w > -math.inf]
    assert found.log_evidence.item() <= max(finite) + 1e-9


@pytest.mark.parametrize("level", [-1e4, 0.0, 1e4])
def test_equal_weights_are_exact_at_any_level(level: float) -> None:
    found = stream(torch.full((37, 2), level, dtype=torch.float64), rows=10)
    assert found.log_evidence.tolist() == pytest.approx([level, level], abs=1e-11)
    assert found.kl.tolist() == pytest.approx([0, 0], abs=1e-11)
    assert found.effective_samples.tolist() == pytest.approx([37, 37], rel=1e-9)


@pytest.mark.parametrize("rows", [1, 4, 5000])
@pytest.mark.parametrize("place", [0, 9, 19])
def test_nan_stays_nan_and_keeps_to_its_datum(rows: int, place: int) -> None:
    log_weights = torch.randn(20, 3, dtype=torch.float64)
    log_weights[place, 1] = torch.nan
    log_weights[3, 1] = -torch.inf
    found = stream(log_weights, rows)
    for values in (found.free_energy, found.log_evidence, found.effective_samples, found.kl):
        assert values.isnan().tolist() == [False, True, False]
    check(
        Evidence(found.free_energy[::2], found.log_evidence[::2], found.effective_samples[::2]),
        log_weights[:, ::2],
    )


@pytest.mark.parametrize("rows", [1, 5000])
def test_weights_all_zero_or_infinite_are_never_a_finite_number(rows: int) -> None:
    log_weights = torch.zeros(20, 3, dtype=torch.float64)
    log_weights[:, 0] = -torch.inf
    log_weights[7, 1] = torch.inf
    found = stream(log_weights, rows)
    assert found.log_evidence.tolist() == pytest.approx([-math.inf, math.inf, 0])
    assert found.free_energy.tolist() == [math.inf, -math.inf, 0]
    assert found.effective_samples.isnan().tolist() == [True, True, False]


@pytest.mark.parametrize(("samples", "batch", "rows"), [(50, 3, 10), (50, 3, 5000), (7, 100, 10), (1, 1, 1), (9, 2, 6)])
def test_chunks_are_bounded_and_make_up_the_samples(samples: int, batch: int, rows: int) -> None:
    posterior = Fixed(torch.randn(samples, batch))
    importance_sampling(lambda z: z[..., 0], posterior, samples, rows)
    assert sum(posterior.chunks) == samples
    assert all(n * batch <= max(rows, batch) for n in posterior.chunks)
    assert len(posterior.chunks) == -(-samples // max(1, rows // batch))  # and no more of them than that needs


def test_weights_are_joint_less_log_q() -> None:
    log_weights = torch.randn(40, 2, dtype=torch.float64)
    check(stream(log_weights, offset=-3.5), log_weights)


def test_float32_weights_are_summed_in_float64() -> None:
    log_weights = (torch.randn(3000, 1) * 0.1 - 1e3).float()
    found = stream(log_weights, rows=10)
    check(found, log_weights.double())


def test_seed_decides(linear_gaussian: Any) -> None:
    model = linear_gaussian(stretch=1.5)
    x = model.data(4)

    def run(seed: int) -> Evidence:
        torch.manual_seed(seed)
        return importance_sampling(lambda z: model.log_joint(x, z), model.posterior(x), 100, rows=50)

    first, again, other = run(0), run(0), run(1)
    assert torch.equal(first.log_evidence, again.log_evidence) and torch.equal(first.free_energy, again.free_energy)
    assert (first.log_evidence != other.log_evidence).all()


def test_no_graph_is_kept() -> None:
    log_weights = torch.randn(40, 2, dtype=torch.float64, requires_grad=True)
    found = stream(log_weights)
    assert not found.free_energy.requires_grad and not found.log_evidence.requires_grad


def test_no_batch_at_all() -> None:
    log_weights = torch.randn(40, dtype=torch.float64)
    found = stream(log_weights, rows=7)
    assert found.log_evidence.shape == ()
    torch.testing.assert_close(found.log_evidence, log_weights.logsumexp(0) - math.log(40))


@pytest.mark.parametrize("samples", [0, -3])
def test_at_least_one_sample(samples: int) -> None:
    with pytest.raises(ConfigError, match=f"samples = {samples}: expected at least 1"):
        importance_sampling(lambda z: z[..., 0], Fixed(torch.zeros(5, 2)), samples)
