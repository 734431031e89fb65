"""What a flow gives when called: a torch distribution, to the letter, for every family and batch shape."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal, constraints

from flowvi.errors import ContextError, DataError, FlowviError, ShapeError
from flowvi.flows import Gaussian, Planar

BATCHES = [(), (3,), (1,), (2, 3), (2, 1, 3)]
SHAPES = [(), (4,), (2, 5)]

EXPANSIONS = [
    ((), (4,)), ((), (2, 3)), ((3,), (3,)), ((3,), (2, 3)), ((1,), (4,)), ((2, 1), (5, 2, 3)),
]  # fmt: skip


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_shapes(case, dtype: torch.dtype) -> None:
    flow = case.moved(3, 4, dtype)
    for batch in BATCHES if case.context else [()]:
        q = flow(case.given(*batch, dtype=dtype))
        assert isinstance(q, torch.distributions.Distribution)
        assert q.batch_shape == batch
        assert q.event_shape == (3,)
        assert q.support is constraints.real_vector
        assert q.has_rsample
        for shape in SHAPES:
            z, log_q = q.rsample_and_log_prob(shape)
            assert z.shape == q.sample(shape).shape == q.rsample(shape).shape == (*shape, *batch, 3)
            assert log_q.shape == q.log_prob(z).shape == (*shape, *batch)
            assert z.dtype == log_q.dtype == q.log_prob(z).dtype == dtype
        assert q.rsample_and_log_prob()[0].shape == (*batch, 3)


def test_a_batch_is_its_rows(case) -> None:
    """Row by row the density and the map of a batch are those of its contexts, alone."""
    flow, context = case.moved(3, 4), case.given(2, 3)
    q = flow(context).expand((2, 3))
    noise = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    z, log_q = q.push(noise)
    again = q.log_prob(noise)
    for i in range(2):
        for j in range(3):
            alone = flow(None if context is None else context[i, j])
            z_alone, log_q_alone = alone.push(noise[:, i, j])
            close(z[:, i, j], z_alone)
            close(log_q[:, i, j], log_q_alone)
            close(again[:, i, j], alone.log_prob(noise[:, i, j]))


def test_expand(case) -> None:
    flow = case.moved(3, 4)
    for batch, target in EXPANSIONS:
        q = flow(case.given(*batch))
        wide = q.expand(torch.Size(target))
        assert wide.batch_shape == target
        assert wide.event_shape == (3,)
        assert type(wide) is type(q)
        z, log_q = wide.rsample_and_log_prob((6,))
        assert z.shape == (6, *target, 3)
        assert log_q.shape == (6, *target)
        close(log_q, q.log_prob(z))
        close(log_q, wide.log_prob(z))
        wider = wide.expand((7, *target)).log_prob(z[:, None].expand(6, 7, *target, 3))
        close(wider, log_q[:, None].expand_as(wider))
        with pytest.raises(RuntimeError):
            wide.expand((9, *target[1:]))


def test_values_broadcast_against_the_batch(case) -> None:
    q = case.moved(3, 4)(case.given(5)).expand((5,))
    z = torch.randn(7, 1, 3, dtype=torch.float64)
    expected = q.log_prob(z.expand(7, 5, 3))
    assert expected.shape == (7, 5)
    close(q.log_prob(z), expected)
    close(q.log_prob(z[0, 0]), expected[0])
    close(q.log_prob(z[0]), expected[0])


def test_values_broadcast_against_batch_dimensions_of_one(case) -> None:
    """Batch (2, 1) and values (4, 2, 3): each context meets its own values, in both directions."""
    q = case.moved(3, 4)(case.given(2, 1)).expand((2, 1))
    z = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    wide = q.expand((2, 3))
    close(q.log_prob(z), wide.log_prob(z))
    for found, expected in zip(q.push(z), wide.push(z), strict=True):
        close(found, expected)


def test_only_sample_cuts_the_gradient(case) -> None:
    flow = case.moved(3, 4)
    q = flow(case.given(2))
    assert not q.sample((5,)).requires_grad
    z, log_q = q.rsample_and_log_prob((5,))
    (z.square().sum() + log_q.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in flow.parameters())
    assert any((p.grad != 0).any() for p in flow.parameters())


def test_empty_requests_give_empty_answers(case) -> None:
    q = case.moved(3, 4)(case.given(2))
    z, log_q = q.rsample_and_log_prob((0,))
    assert z.shape == (0, *q.batch_shape, 3)
    assert log_q.shape == (0, *q.batch_shape)
    if case.context:
        flow = case.moved(3, 4)
        z, log_q = flow(case.given(0)).rsample_and_log_prob((6,))
        assert z.shape == (6, 0, 3)
        assert flow(case.given(0)).log_prob(z).shape == (6, 0)
        (z.sum() + log_q.sum()).backward()  # data-parallel training waits for a gradient of every process
        assert all(p.grad is not None and (p.grad == 0).all() for p in flow.parameters())
        assert log_q.shape == (6, 0)


# --- mistakes -----------------------------------------------------------------------------------------------


def test_a_wrong_context_is_named(case) -> None:
    flow = case.build(3, 4)
    if not case.context:
        with pytest.raises(ContextError, match=r"takes no context: found one of shape \(2, 5\)"):
            flow(torch.randn(2, 5).double())
        return
    with pytest.raises(ContextError, match=r"needs a context of shape \(batch…, 5\): none was given"):
        flow()
    with pytest.raises(ContextError, match=r"context of shape \(2, 4\): expected \(batch…, 5\)"):
        flow(torch.randn(2, 4).double())
    with pytest.raises(ContextError, match=r"context of shape \(\)"):
        flow(torch.tensor(1.0).double())
    with pytest.raises(ContextError, match=r"context of torch\.float32, flow of torch\.float64"):
        flow(torch.randn(2, 5))


def test_wrong_points_are_named(case) -> None:
    q = case.moved(3, 4)(case.given(2))
    for shape in ((4,), (2, 1), ()):  # (2, 1) would broadcast to D = 3 unseen
        wrong = torch.zeros(shape, dtype=torch.float64)
        for method in (q.log_prob, q.push):
            with pytest.raises(ShapeError, match=r"shape \(.*\): expected \(…, 3\)"):
                method(wrong)
    if case.context:
        with pytest.raises(ValueError, match=r"\[5, 3\].*\[2, 3\]"):
            q.log_prob(torch.zeros(5, 3, dtype=torch.float64))


def test_points_of_another_dtype_are_named(case) -> None:
    q = case.moved(3, 4)(case.given(2))
    for method in (q.log_prob, q.pull, q.push):
        with pytest.raises(DataError, match=r"points of torch\.float32, flow of torch\.float64: convert one of them"):
            method(torch.zeros(2, 3))


def test_pull_is_the_inverse_of_push(case) -> None:
    q = case.moved(3, 4)(case.given(2))
    noise = torch.randn(5, *q.batch_shape, 3, dtype=torch.float64)
    z, log_q = q.push(noise)
    again, log_q_again = q.pull(z)
    torch.testing.assert_close(again, noise, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_q_again, log_q, rtol=1e-6, atol=1e-6)


def test_nan_is_refused_unless_validation_is_off(case) -> None:
    q = case.moved(3, 4)(case.given())
    z = torch.zeros(2, 3, dtype=torch.float64)
    z[1, 1] = math.nan
    with pytest.raises(ValueError, match="within the support"):
        q.log_prob(z)
    unchecked = type(q)(q.base_mean, q.base_log_scale, q.parts, validate_args=False)
    found = unchecked.log_prob(z)
    assert found[0].isfinite()
    assert found[1].isnan()
    assert unchecked.expand((2,)).log_prob(z)[1].isnan()


@pytest.mark.parametrize(("features", "context"), [(0, 0), (-1, 0), (2.0, 0), (True, 0), (2, -1), (2, 1.5), ("2", 0)])
def test_a_wrong_size_is_named(features: object, context: object) -> None:
    for family in (Planar, Gaussian):
        with pytest.raises(ShapeError, match="expected a whole number of at least"):
            family(features, context)


def test_a_wrong_length_is_named() -> None:
    for length in (-1, 2.0, True, None):
        with pytest.raises(ShapeError, match="length = "):
            Planar(2, 0, length)
    with pytest.raises(ShapeError, match="no layers"):
        Gaussian(2, 0, 3)


def test_every_mistake_is_a_value_error_of_ours() -> None:
    assert issubclass(ContextError, ShapeError)
    assert issubclass(ShapeError, ValueError)
    assert issubclass(ShapeError, FlowviError)


# --- the base -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("context", [0, 4])
def test_the_gaussian_is_torchs_own(batch: tuple[int, ...], context: int, dtype: torch.dtype) -> None:
    flow = Gaussian(3, context).to(dtype)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_()
    q = flow(torch.randn(*batch, context, dtype=dtype)) if context else flow()
    peer = Independent(Normal(q.base_mean, q.base_log_scale.exp()), 1)
    z = torch.randn(5, *q.batch_shape, 3, dtype=dtype) * 3
    torch.testing.assert_close(q.log_prob(z), peer.log_prob(z))
    assert torch.equal(q.mean, peer.mean)
    torch.testing.assert_close(q.variance, peer.variance)
    torch.testing.assert_close(q.stddev, peer.stddev)
    torch.manual_seed(3)
    own = q.rsample((6,))
    torch.manual_seed(3)
    torch.testing.assert_close(own, peer.rsample((6,)))


def test_the_static_base_starts_at_the_standard_normal(dtype: torch.dtype) -> None:
    q = Gaussian(3).to(dtype)()
    assert (q.mean == 0).all()
    assert (q.variance == 1).all()


def test_the_base_reads_the_means_first_then_the_log_scales() -> None:
    """Saved weights depend on this order."""
    static, amortised = Gaussian(2), Gaussian(2, 3)
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    static.load_state_dict({"base.location": values})
    amortised.load_state_dict({"base.head.weight": torch.zeros(4, 3), "base.head.bias": values})
    for q in (static(), amortised(torch.ones(3))):
        torch.testing.assert_close(q.mean, values[:2])
        torch.testing.assert_close(q.variance.log(), 2 * values[2:])


def test_extreme_scales_of_the_base(case, dtype: torch.dtype) -> None:
    """ln σ = ±80 is within float32; nothing on the way to ln q may leave it."""
    start = case.build(2, 3, dtype)(case.given(dtype=dtype))
    zero, noise = torch.zeros_like(start.base_mean), torch.randn(16, 2, dtype=dtype)
    for log_scale in (-80.0, -20.0, 20.0, 80.0):
        q = type(start)(zero, zero + log_scale, start.parts)
        z, log_q = q.push(noise)
        assert z.isfinite().all()
        assert log_q.isfinite().all()
        if not q.parts:
            peer = Independent(Normal(zero.double(), (zero + log_scale).double().exp()), 1)
            torch.testing.assert_close(log_q.double(), peer.log_prob(z.double()), rtol=1e-5, atol=1e-4)
        if log_scale > 0 or not q.parts:  # else the points are too close together for their own size
            torch.testing.assert_close(q.log_prob(z), log_q, rtol=1e-3, atol=1e-2)


def test_a_chain_has_no_mean() -> None:
    for moment in ("mean", "variance", "stddev"):
        with pytest.raises(NotImplementedError):
            getattr(Planar(2, 0, 3)(), moment)


def test_it_says_what_it_is(case) -> None:
    q = case.build(3, 4)(case.given(2))
    assert repr(q) == f"FlowDistribution(batch_shape: {(2,) if case.context else ()}, event_shape: (3,))"
    assert isinstance(repr(case.build(3, 4)), str)


@pytest.mark.slow
def test_a_million_points(case) -> None:
    with torch.no_grad():
        q = case.moved(2, 8, torch.float32)(case.given(dtype=torch.float32))
        assert q.log_prob(torch.randn(10**6, 2)).isfinite().all()
