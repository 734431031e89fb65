"""How a flow starts, beside the identity, which the audit checks: each start is what it says it is."""

from __future__ import annotations

import math

import pytest
import torch

from flowvi.errors import ConfigError, ContextError, ShapeError
from flowvi.flows import IAF, NICE, Flow, FullRankGaussian, Householder, Planar, Radial, RealNVP, Sylvester, build
from flowvi.flows.planar import PlanarChain

LONG = 80

sizes = pytest.mark.parametrize("features", [1, 2, pytest.param(40, marks=pytest.mark.slow)])


@sizes
def test_every_start_is_finite_with_gradients(case, features: int, dtype: torch.dtype) -> None:
    if features < case.subject.least:
        pytest.skip("too few features for the family")
    for init in case.subject.inits or (None,):
        length = LONG if init == "identity" else 8  # others may blow a long chain up, each by its own way
        flow = case.subject.build(features, length, **({} if init is None else {"init": init})).to(dtype)
        z, log_q = flow(case.given(3, dtype=dtype)).rsample_and_log_prob((4,))
        log_q.mean().backward()
        assert z.isfinite().all()
        assert log_q.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in flow.parameters())


def test_a_start_still_learns(chained) -> None:
    """The identity is a start, not a trap: the gradient by the chain's parameters is not zero."""
    flow = chained.build(3, 4)
    z, log_q = flow(chained.given(8)).rsample_and_log_prob((8,))
    (z.pow(3).sum() + log_q.sum()).backward()
    for link in flow.links:
        assert any(p.grad is not None and (p.grad != 0).any() for p in link.parameters())


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
        parameters = Planar(3, 5, 4, init=init)(torch.randn(2, 5)).parts[0].conditioning
        assert parameters.shape == (2, 4, 7)
        assert parameters.is_contiguous()
        assert torch.equal(parameters[0], parameters[1]) == alike


def test_where_the_parameters_come_from() -> None:
    context = torch.randn(2, 5)
    assert Planar(3, 5, 4)(context).parts[0].conditioning.shape == (2, 4, 7)
    assert Planar(3, 5, 4, parameters="amortised")(context).parts[0].conditioning.shape == (2, 4, 7)
    assert Planar(3, 5, 4, parameters="static")(context).parts[0].conditioning.shape == (4, 7)
    assert Planar(3, 5, 4, parameters="static")(context).batch_shape == (2,)
    assert Planar(3, 0, 4)().parts[0].conditioning.shape == (4, 7)
    with pytest.raises(ContextError, match="amortised parameters need a context"):
        Planar(3, 0, 4, parameters="amortised")


def test_no_layers_leave_the_base(chained) -> None:
    if chained.subject.kind == "planar+full_rank":
        pytest.skip("the second part is there all the same")
    flow = chained.build(3, 0)
    q = flow(chained.given())
    assert torch.equal(q.mean, q.base_mean)
    base = build("gaussian", 3, chained.context)
    assert sum(p.numel() for p in flow.parameters()) == sum(p.numel() for p in base.parameters())


@pytest.mark.parametrize(
    ("family", "option"),
    [
        (Planar, "invertibility"), (Planar, "h"), (Planar, "parameters"), (Planar, "init"), (Radial, "init"),
        (Householder, "init"), (Sylvester, "variant"), (Sylvester, "init"), (NICE, "mixing"), (NICE, "init"),
        (RealNVP, "init"), (IAF, "init"), (FullRankGaussian, "parameters"),
    ],
)  # fmt: skip
def test_a_wrong_word_says_what_is_allowed(family: type[Flow], option: str) -> None:
    for length in (0,) if family is FullRankGaussian else (0, 2):
        with pytest.raises(ConfigError, match=rf"{option} = 'wrong': allowed are "):
            family(2, 0, length, **{option: "wrong"})


@pytest.mark.parametrize("family", [NICE, RealNVP, IAF])
@pytest.mark.parametrize("hidden", [(), 64, (0,), (2.0,), (True,), "64", None])
def test_wrong_hidden_sizes_are_named(family: type[Flow], hidden: object) -> None:
    with pytest.raises(ConfigError, match="expected one or more whole numbers of at least 1"):
        family(2, 0, 2, hidden=hidden)


def test_other_wrong_numbers_are_named() -> None:
    for reflections in (1, 3, 0, -2):
        with pytest.raises((ConfigError, ShapeError), match=f"reflections = {reflections}"):
            Householder(2, 0, 2, reflections=reflections)
    for bottleneck in (0, 3, "all"):
        with pytest.raises(ShapeError, match=f"bottleneck = {bottleneck!r}"):
            Sylvester(2, 0, 2, bottleneck=bottleneck)
    for gate_bias in (math.inf, math.nan, "2", None):
        with pytest.raises(ConfigError, match=r"gate_bias = .*: expected a finite number"):
            IAF(2, 0, 2, gate_bias=gate_bias)


def test_the_gate_starts_where_its_bias_says() -> None:
    noise = torch.randn(5, 3)
    for gate_bias in (2.0, 0.0):
        z, _ = IAF(3, 0, 2, gate_bias=gate_bias)().push(noise)
        torch.testing.assert_close(z, noise * torch.tensor(gate_bias).sigmoid() ** 2)
