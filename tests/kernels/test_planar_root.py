"""The scalar root behind the planar inverse: a + c·tanh(a) = r, with ln(1 + c) given.

Truth is the equation itself in multiple precision; the residual that rounding allows is a few ε of its terms.
"""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowvi.kernels.roots import planar_root

EPS = torch.finfo(torch.float64).eps

sizes = st.floats(-300, 6).map(lambda exponent: 10.0**exponent)
targets = st.one_of(st.just(0.0), st.floats(-1e6, 1e6), sizes, sizes.map(lambda size: -size))
slacks = st.one_of(st.just(0.0), st.floats(-700, 200), st.floats(-1e-6, 1e-6), st.floats(-5, 5))
small = {"deadline": None, "derandomize": True, "max_examples": 150}


def root(target: float, log_slack: float) -> float:
    return planar_root(torch.tensor(target, dtype=torch.float64), torch.tensor(log_slack, dtype=torch.float64)).item()


def residual(a: float, target: float, log_slack: float) -> float:
    """|a + c·tanh a − r| in units of ε·(|a| + (1 + c)|tanh a| + |r|): the rounding of the equation itself."""
    with mpmath.workdps(650):  # a − tanh a ≈ a³/3 for a down to 1e-100, and 1 + c down to e⁻⁷⁰⁰
        a, target, slack = mpmath.mpf(a), mpmath.mpf(target), mpmath.exp(mpmath.mpf(log_slack))
        h = mpmath.tanh(a)
        size = abs(a) + slack * abs(h) + abs(target)
        grain = size * EPS + (1 + slack) * mpmath.mpf(5e-324)  # a and r may lie among the subnormal numbers
        return float(abs((a - h) + slack * h - target) / grain)


def grid(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pairs of every magnitude: targets 1e-12 to 1e4 of both signs, log-slacks −40 to 8."""
    target = 10 ** (torch.rand(n, dtype=torch.float64) * 16 - 12) * torch.randn(n, dtype=torch.float64).sign()
    return target, torch.rand(n, dtype=torch.float64) * 48 - 40


@settings(**small)
@given(targets, slacks)
def test_the_root_solves_the_equation(target: float, log_slack: float) -> None:
    assert residual(root(target, log_slack), target, log_slack) <= 4


@settings(**small)
@given(targets, slacks)
def test_the_root_is_odd_and_has_the_sign_of_the_target(target: float, log_slack: float) -> None:
    a = root(target, log_slack)
    assert root(-target, log_slack) == -a
    assert math.copysign(1, a) == math.copysign(1, target)
    assert target != 0 or a == 0


@settings(**small)
@given(targets, st.floats(1e-3, 1e3), slacks)
def test_the_root_grows_with_the_target(target: float, ratio: float, log_slack: float) -> None:
    low, high = sorted((target, target * ratio))
    below, above = root(low, log_slack), root(high, log_slack)
    # the terms' rounding, as a step in a: nothing near a triple root, everything where 1 + c is huge
    assert below <= above + 8 * EPS * max(abs(below), abs(above)) or residual(below, high, log_slack) <= 8


def test_many_roots_at_once_agree_with_bisection() -> None:
    target, log_slack = grid(2000)
    low = torch.zeros_like(target)
    high = target.abs() + 1  # g(a) ≥ a − 1
    for _ in range(200):
        middle = (low + high) / 2
        above = (middle - middle.tanh()) + log_slack.exp() * middle.tanh() > target.abs()
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    a = planar_root(target, log_slack).abs()
    slope = a.tanh() ** 2 + log_slack.exp() * (1 - a.tanh() ** 2)
    rounding = EPS * (a + log_slack.exp() * a.tanh() + target.abs()) / slope
    assert ((a - (low + high) / 2).abs() <= 8 * rounding + 1e-100).all()


def test_a_few_steps_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near a triple root too (c → −1, r → 0), where Newton's method alone would crawl."""
    monkeypatch.setattr("flowvi.kernels.roots._MOST_STEPS", 12)
    target, log_slack = torch.meshgrid(
        10 ** torch.linspace(-300, 6, 200, dtype=torch.float64),
        torch.linspace(-700, 8, 200, dtype=torch.float64),
        indexing="ij",
    )
    a, slack = planar_root(target, log_slack), log_slack.exp()
    error = (a - a.tanh()) + slack * a.tanh() - target
    assert (error.abs() <= 4 * EPS * (a + slack * a.tanh() + target)).all()


def test_a_root_does_not_depend_on_the_others_in_the_call() -> None:
    target, log_slack = grid(1024)
    pieces = zip(
        target.split(64), log_slack.split(64), strict=True
    )  # whole vector registers: torch's pow differs in a tail
    assert torch.equal(planar_root(target, log_slack), torch.cat([planar_root(*piece) for piece in pieces]))


def test_infinite_and_missing_targets_stay_as_they_are_and_touch_no_other() -> None:
    target = torch.tensor([math.inf, -math.inf, math.nan, 3.0, 0.0, -0.0], dtype=torch.float64)
    for log_slack in (-900.0, -750.0, -30.0, 0.0, 5.0):
        a = planar_root(target, torch.tensor(log_slack))
        assert a[0] == math.inf
        assert a[1] == -math.inf
        assert a[2].isnan()
        assert residual(a[3].item(), 3.0, log_slack) <= 4
        assert (a[4:] == 0).all()


def test_the_answer_is_float64_and_broadcast() -> None:
    a = planar_root(torch.randn(3, 1, dtype=torch.float32), torch.randn(4, dtype=torch.float32))
    assert a.dtype == torch.float64
    assert a.shape == (3, 4)


def differentiable() -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.tensor([-50.0, -3.0, -0.4, 0.0, 1e-3, 0.7, 2.0, 20.0], dtype=torch.float64)
    log_slack = torch.tensor([-2.0, -0.5, 0.0, 0.3, 5.0], dtype=torch.float64)
    pairs = torch.cartesian_prod(target, log_slack)
    return pairs[:, 0].clone().requires_grad_(), pairs[:, 1].clone().requires_grad_()


def test_gradients_once_and_twice() -> None:
    assert torch.autograd.gradcheck(planar_root, differentiable(), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(planar_root, differentiable(), atol=1e-4)


@pytest.mark.parametrize("log_slack", [-200.0, -20.0, 0.0, 5.3])
@pytest.mark.parametrize("a", [1e-4, 0.5, 3.0, 40.0])
def test_gradients_where_finite_differences_cannot_go(a: float, log_slack: float) -> None:
    with mpmath.workdps(200):
        h, slack = mpmath.tanh(a), mpmath.exp(log_slack)
        target = float(a - h + slack * h)
        slope = float(h**2 + slack * mpmath.sech(a) ** 2)
        expected = 1 / slope, -float(slack * h) / slope
    inputs = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (target, log_slack)]
    found = torch.autograd.grad(planar_root(*inputs), inputs)
    for value, truth in zip(found, expected, strict=True):
        assert value.item() == pytest.approx(truth, rel=1e-6, abs=1e-300)


def test_under_torch_func() -> None:
    target, log_slack = (tensor.detach() for tensor in differentiable())
    expected = planar_root(target, log_slack)
    assert torch.equal(torch.func.vmap(planar_root)(target, log_slack), expected)
    assert torch.equal(torch.func.vmap(planar_root, (0, None))(target, log_slack[0]), planar_root(target, log_slack[0]))
    nested = torch.func.vmap(torch.func.vmap(planar_root, (None, 0)), (0, None))(target, log_slack)
    assert torch.equal(nested, planar_root(target[:, None], log_slack))
    backward = torch.func.jacrev(planar_root, argnums=(0, 1))(target, log_slack)
    forward = torch.func.jacfwd(planar_root, argnums=(0, 1))(target, log_slack)
    torch.testing.assert_close(forward, backward)
    hessian = torch.func.hessian(lambda t: planar_root(t, log_slack).sum())(target)
    torch.testing.assert_close(
        hessian, torch.autograd.functional.hessian(lambda t: planar_root(t, log_slack).sum(), target)
    )
