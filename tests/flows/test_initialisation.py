"""How a flow starts: `identity` is the identity whatever the length, the others are what they say."""

from __future__ import annotations

import math

import pytest
import torch

from flowvi.errors import ConfigError, ContextError
from flowvi.flows import Planar, build
from flowvi.flows.planar import PlanarChain

sizes = pytest.mark.parametrize("features", [1, 2, 40])


@sizes
def test_every_start_is_finite_with_gradients(case, features: int, dtype: torch.dtype) -> None:
    flow = case.build(features, 80, dtype)
    z, log_q = flow(case.given(3, dtype=dtype)).rsample_and_log_prob((4,))
    log_q.mean().backward()
    assert z.isfinite().all()
    assert log_q.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in flow.parameters())


@sizes
def test_identity_starts_at_the_base(starting, features: int, dtype: torch.dtype) -> None:
    """80 layers, for any context, static or amortised: z and ln q are the base's, to rounding."""
    q = starting.build(features, 80, dtype)(starting.given(4, dtype=dtype))
    noise = torch.randn(16, *q.batch_shape, features, dtype=dtype)
    z, log_q = q.push(noise)
    base = build("gaussian", features, 0).to(dtype)()
    z0 = q.base_mean + q.base_log_scale.exp() * noise
    # u is drawn in float32 and then cast, so that its own rounding stays
    tolerance = 1e-5 if starting.options.get("invertibility") == "paper" else 0.0
    torch.testing.assert_close(z, z0, rtol=0, atol=tolerance)
    log_q0 = base.log_prob(noise) - q.base_log_scale.sum(-1)
    slack = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(log_q, log_q0, rtol=slack, atol=max(slack, tolerance) * 5)


def test_identity_still_learns(chained) -> None:
    """The identity is a start, not a trap: the gradient by the chain's parameters is not zero."""
    flow = chained.build(3, 4)
    z, log_q = flow(chained.given(8)).rsample_and_log_prob((8,))
    (z.pow(3).sum() + log_q.sum()).backward()
    assert any((p.grad != 0).any() for p in flow.conditioner.parameters())


def test_planar_starts_are_as_described() -> None:
    chain = PlanarChain(10, "centred")
    xavier = chain.start("xavier", 5000)
    limit = math.sqrt(6 / 11)
    assert xavier[:, :-1].abs().max() <= limit
    assert xavier[:, :-1].std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert (xavier[:, -1] == 0).all()
    normal = chain.start("normal", 5000)
    assert normal.std().item() == pytest.approx(1, rel=0.02)
    assert normal[:, -1].std().item() == pytest.approx(1, rel=0.05)
    w = chain.start("identity", 5000)[:, :10]
    assert w.square().sum(-1).mean().item() == pytest.approx(1, rel=0.05)


def test_an_amortised_start_is_the_same_for_every_context_only_as_identity() -> None:
    for init, alike in (("identity", True), ("xavier", False), ("normal", False)):
        parameters = Planar(3, 5, 4, init=init)(torch.randn(2, 5)).conditioning
        assert parameters.shape == (2, 4, 7)
        assert parameters.is_contiguous()
        assert torch.equal(parameters[0], parameters[1]) == alike


def test_where_the_parameters_come_from() -> None:
    context = torch.randn(2, 5)
    assert Planar(3, 5, 4)(context).conditioning.shape == (2, 4, 7)
    assert Planar(3, 5, 4, parameters="amortised")(context).conditioning.shape == (2, 4, 7)
    assert Planar(3, 5, 4, parameters="static")(context).conditioning.shape == (4, 7)
    assert Planar(3, 5, 4, parameters="static")(context).batch_shape == (2,)
    assert Planar(3, 0, 4)().conditioning.shape == (4, 7)
    with pytest.raises(ContextError, match="amortised parameters need a context"):
        Planar(3, 0, 4, parameters="amortised")


def test_no_layers_leave_the_base() -> None:
    for context in (0, 5):
        flow = Planar(3, context, 0)
        q = flow(torch.randn(5) if context else None)
        assert q.mean.shape == (3,)
        assert sum(p.numel() for p in flow.parameters()) == sum(
            p.numel() for p in build("gaussian", 3, context).parameters()
        )


@pytest.mark.parametrize("option", ["invertibility", "parameters", "init"])
def test_a_wrong_word_says_what_is_allowed(option: str) -> None:
    for length in (0, 2):
        with pytest.raises(ConfigError, match=rf"{option} = 'wrong': allowed are "):
            Planar(2, 0, length, **{option: "wrong"})
