"""Supports: maps, log-determinants and densities against autograd, quadrature and known distributions."""

from __future__ import annotations

import copy
import doctest
import io
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Dirichlet, Independent, LKJCholesky, LogisticNormal, LogNormal, MultivariateNormal
from torch.func import jacrev, vmap

import flowvi
from flowvi import supports
from flowvi.errors import ConfigError, ContextError, FlowviError, ShapeError
from flowvi.flows import Gaussian, Planar
from flowvi.inference.supports import (
    Support,
    Supported,
    SupportedDistribution,
    correlation_cholesky,
    interval,
    ordered,
    positive,
    real,
    simplex,
    unit_interval,
)

# Each with how far |z| may go for a value to tell z: the whole range of exponents where numbers near the
# boundary are near 0, else less.
REACH = {
    real(): 30.0,
    real(2, 3): 30.0,
    positive(): 30.0,
    positive(3): 30.0,
    unit_interval(2): 6.0,
    unit_interval(2, 2): 6.0,
    interval(-1.0, 3.0): 6.0,
    interval(2, 2.5, 3): 4.0,
    simplex(2): 30.0,
    simplex(4): 25.0,
    ordered(1): 30.0,
    ordered(3): 3.0,
    correlation_cholesky(2): 30.0,
    correlation_cholesky(4): 25.0,
}
SUPPORTS = list(REACH)

OUTSIDE = {
    real(2): [[math.inf, 0.0], [0.0, -math.inf]],
    positive(2): [[1.0, 0.0], [-1.0, 1.0], [math.inf, 1.0]],
    unit_interval(2): [[0.0, 0.5], [0.5, 1.0], [-0.5, 0.5], [0.5, 2.0], [math.inf, 0.5]],
    interval(-1, 3, 2): [[-1.0, 0.0], [0.0, 3.0], [-7.0, 0.0], [0.0, math.inf]],
    simplex(3): [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.7, 0.5, -0.2], [0.2, 0.2, 0.5], [0.3, 0.3, 0.4001],
                 [math.inf, 0.5, 0.5]],
    ordered(2): [[1.0, 1.0], [1.0, 0.0], [1.0, math.inf], [-math.inf, 0.0]],
    correlation_cholesky(2): [
        [[1.0, 0.0], [1.0, 0.0]],  # on the boundary
        [[1.0, 0.0], [0.6, -0.8]],
        [[1.0, 0.0], [0.6, 0.7]],
        [[0.8, 0.6], [0.6, 0.8]],
        [[-1.0, 0.0], [0.6, 0.8]],
        [[1.0, 0.0], [math.inf, 0.8]],
    ],
}  # fmt: skip


def points(support: Support, n: int, reach: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return ((2 * torch.rand(n, support.size, dtype=torch.float64) - 1) * reach).to(dtype)


def coordinates(support: Support, value: Tensor) -> Tensor:
    """Those of the base measure, (…, size), written down apart from the library."""
    if support.name == "simplex":
        return value[..., :-1]
    if support.name == "correlation_cholesky":
        n = support.shape[0]
        return torch.stack([value[..., i, j] for i in range(n) for j in range(i)], -1)
    return value.reshape(*value.shape[: value.dim() - len(support.shape)], support.size)


def perturbed(flow: nn.Module, scale: float = 0.5, seed: int = 1) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return flow


def planar(support: Support, context: int = 0, dtype: torch.dtype = torch.float64) -> Supported:
    return Supported(perturbed(Planar(support.size, context, 3)).to(dtype), support)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# --- objects ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("support", "text", "shape", "size"),
    [
        (real(), "real()", (), 1),
        (real(8), "real(8)", (8,), 8),
        (real(2, 3), "real(2, 3)", (2, 3), 6),
        (positive(3), "positive(3)", (3,), 3),
        (unit_interval(), "unit_interval()", (), 1),
        (interval(0, 1), "interval(0.0, 1.0)", (), 1),
        (interval(-1, 2.5, 4), "interval(-1.0, 2.5, 4)", (4,), 4),
        (simplex(3), "simplex(3)", (3,), 2),
        (ordered(3), "ordered(3)", (3,), 3),
        (correlation_cholesky(4), "correlation_cholesky(4)", (4, 4), 6),
    ],
)
def test_what_a_support_says_of_itself(support: Support, text: str, shape: tuple[int, ...], size: int) -> None:
    assert repr(support) == text
    assert (support.shape, support.size) == (shape, size)
    assert support.name == text.partition("(")[0]
    assert support.constraint.event_dim == len(shape)
    for other in (eval(text, vars(supports)), copy.deepcopy(support), pickle.loads(pickle.dumps(support))):
        assert other == support
        assert hash(other) == hash(support)
    with pytest.raises(AttributeError):
        support.name = "another"  # type: ignore[misc]


def test_different_supports_differ() -> None:
    assert (
        len({*SUPPORTS, real(4), ordered(4), positive(4), simplex(5), interval(0, 1), unit_interval()})
        == len(SUPPORTS) + 6
    )
    assert interval(0, 1) == interval(0.0, 1.0)
    assert interval(0, 1) != interval(0, 2)


@pytest.mark.parametrize("make", [real, positive, unit_interval, lambda *shape: interval(0, 1, *shape)])
@pytest.mark.parametrize("shape", [(0,), (-1,), (2, -3), (True,), (2.0,), ("2",), (None,), ((2, 3),)], ids=str)
def test_a_wrong_shape_is_named(make: Callable[..., Support], shape: tuple[Any, ...]) -> None:
    found = ", ".join(map(repr, shape))
    with pytest.raises(ShapeError, match=r"^\w+: sizes \(.*\): expected whole numbers of at least 1$") as caught:
        make(*shape)
    assert f"({found})" in str(caught.value)


def test_a_wrong_size_is_named() -> None:
    for n in (1, 0, -2, True, 2.0, None):
        for make in (simplex, correlation_cholesky):
            with pytest.raises(ShapeError, match=rf"^{make.__name__}: sizes .*: expected whole numbers of at least 2$"):
                make(n)
    for n in (0, True, 1.5):
        with pytest.raises(ShapeError, match=r"^ordered: sizes .*: expected whole numbers of at least 1$"):
            ordered(n)


@pytest.mark.parametrize(
    "bounds",
    [(1, 1), (2, 1), (0, math.inf), (-math.inf, 0), (math.nan, 1), (0, math.nan), (True, 2), ("0", 1), (None, 1),
     (0, 10**400), (-1e308, 1e308)],
    ids=lambda bounds: repr(bounds)[:20],
)  # fmt: skip
def test_wrong_bounds_are_named(bounds: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^interval\(.*, .*\): expected finite numbers a < b, and a finite b − a$"):
        interval(*bounds)


def test_an_interval_that_the_precision_cannot_tell() -> None:
    for narrow in (interval(1, 1 + 1e-9), interval(1, 1 + 2**-23), interval(0, 1e300)):
        narrow.constrain(torch.zeros(1, dtype=torch.float64))
        for method in (narrow.constrain, narrow.unconstrain, narrow.contains):
            with pytest.raises(ConfigError, match=r"holds no number of torch\.float32"):
                method(torch.zeros(1))


def test_wrong_points_are_named() -> None:
    with pytest.raises(
        ShapeError, match=r"^unconstrained points of shape \(5, 3\): expected \(…, 2\) for simplex\(3\)$"
    ):
        simplex(3).constrain(torch.zeros(5, 3))
    with pytest.raises(ShapeError, match=r"points of shape \(\): expected \(…, 1\) for positive\(\)"):
        positive().constrain(torch.tensor(0.0))
    for method in (simplex(3).unconstrain, simplex(3).contains):
        for shape in ((3, 2), (), (1,)):
            with pytest.raises(ShapeError, match=r"^points of shape \(.*\): expected \(…, 3\) for simplex\(3\)$"):
                method(torch.zeros(shape))
    with pytest.raises(ShapeError, match=r"expected \(…, 2, 2\) for correlation_cholesky\(2\)"):
        correlation_cholesky(2).contains(torch.zeros(4, 2))


def test_the_docstrings_examples() -> None:
    assert doctest.testmod(supports).failed == 0
    public = [getattr(supports, name) for name in supports.__all__]
    public += [Support.constrain, Support.unconstrain, Support.contains]
    assert all("Example:" in part.__doc__ for part in public)


def test_the_name_is_lazy() -> None:
    code = """
        import sys, flowvi, flowvi.inference
        assert "torch" not in sys.modules
        assert {"supports"} <= set(dir(flowvi)) & set(flowvi.inference.__all__)
        assert flowvi.supports.simplex(3).size == 2
        assert flowvi.inference.supports.simplex is flowvi.supports.simplex
        from flowvi import supports"""
    subprocess.run([sys.executable, "-c", "\n".join(map(str.strip, code.splitlines()))], check=True, timeout=120)
    assert flowvi.supports is supports


# --- maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("support", SUPPORTS, ids=repr)
def test_log_det_is_that_of_autograds_jacobian(support: Support) -> None:
    for reach in (1.0, min(REACH[support], 8.0)):  # beyond, the LU of slogdet is the less exact one
        z = points(support, 64, reach)
        _, log_det = support.constrain(z)
        jacobian = vmap(jacrev(lambda z: coordinates(support, support.constrain(z)[0])))(z)
        sign, expected = torch.linalg.slogdet(jacobian)
        assert (sign > 0).all()  # triangular, increasing
        close(log_det, expected, 1e-8)


@pytest.mark.parametrize("support", SUPPORTS, ids=repr)
def test_shapes(support: Support, dtype: torch.dtype) -> None:
    for batch in ((), (5,), (2, 1, 3), (0,)):
        value, log_det = support.constrain(torch.randn(*batch, support.size, dtype=dtype))
        assert value.shape == (*batch, *support.shape)
        assert log_det.shape == support.contains(value).shape == batch
        assert value.dtype == log_det.dtype == dtype
        assert support.contains(value).dtype == torch.bool
        z, again = support.unconstrain(value)
        assert z.shape == (*batch, support.size)
        assert again.shape == batch
        assert z.dtype == again.dtype == dtype


@pytest.mark.parametrize("support", SUPPORTS, ids=repr)
def test_round_trips(support: Support, dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    for reach in (1e-3, 1.0, REACH[support]):
        z = points(support, 2000, reach, dtype)
        value, log_det = support.constrain(z)
        assert support.contains(value).all()
        assert support.constraint.check(value).all()
        again, log_det_again = support.unconstrain(value)
        assert ((again - z).abs() <= 2e4 * eps).all()
        scale = 1 + log_det.abs()
        assert ((log_det_again - log_det).abs() <= 2e4 * eps * scale).all()
        back, _ = support.constrain(again)
        assert ((back - value).abs() <= 1e2 * eps * value.abs().amax()).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_value_maps_back_to_itself(data: st.DataObject) -> None:
    """z of any size up to 30: the value returns even where rounding, beside a boundary, has lost z."""
    support = data.draw(st.sampled_from(SUPPORTS))
    dtype, width = data.draw(st.sampled_from([(torch.float32, 32), (torch.float64, 64)]))
    entries = st.floats(-30, 30, width=width)
    z = torch.tensor(data.draw(st.lists(entries, min_size=support.size, max_size=support.size)), dtype=dtype)
    value, log_det = support.constrain(z)
    assert support.contains(value)
    assert log_det.isfinite()
    again, log_det_again = support.unconstrain(value)
    assert again.isfinite().all()
    assert log_det_again.isfinite()
    back, _ = support.constrain(again)
    assert (back - value).abs().max() <= 200 * torch.finfo(dtype).eps * value.abs().max()


@pytest.mark.parametrize("support", SUPPORTS, ids=repr)
def test_float32_agrees_with_float64(support: Support) -> None:
    for reach in (1.0, 30.0, 80.0):
        z = points(support, 1000, reach, torch.float32)
        value, log_det = support.constrain(z)
        expected, expected_log_det = support.constrain(z.double())
        total = 1 + expected_log_det.abs() + z.abs().sum(-1).double()
        assert ((log_det - expected_log_det).abs() <= 4e-7 * total).all()
        big = expected.abs().flatten(1).amax(-1) if support.shape else expected.abs()
        big = big.reshape(-1, *(1,) * len(support.shape))
        assert ((value - expected).abs() <= 1e-5 * big).all()
        assert support.contains(value).all()


@pytest.mark.parametrize("support", SUPPORTS, ids=repr)
@pytest.mark.parametrize("size", [60.0, 300.0, 900.0])
def test_log_det_and_its_gradient_are_finite_far_out(support: Support, size: float, dtype: torch.dtype) -> None:
    for z in (torch.full((support.size,), size), torch.full((support.size,), -size), points(support, 1, size)[0]):
        z = z.to(dtype).requires_grad_()
        _, log_det = support.constrain(z)
        assert log_det.isfinite()
        if support.name != "real":  # a constant
            (gradient,) = torch.autograd.grad(log_det, z)
            assert gradient.isfinite().all()


def test_log_det_of_the_sigmoid_by_hand(dtype: torch.dtype) -> None:
    """−z − 2 ln(1 + exp(−z)): also just beyond 20, where torch's softplus turns linear."""
    z = torch.tensor([0.0, 19.0, 21.0, 30.0, 500.0, -21.0, -500.0], dtype=dtype)[:, None]
    expected = [-abs(x) - 2 * math.log1p(math.exp(-abs(x))) for x in z.flatten().tolist()]
    torch.testing.assert_close(
        unit_interval().constrain(z)[1], torch.tensor(expected, dtype=dtype), rtol=2 * torch.finfo(dtype).eps, atol=0
    )


def test_values_far_out_are_inside(dtype: torch.dtype) -> None:
    """Rounding stops at the last number before the boundary."""
    finfo = torch.finfo(dtype)
    far = torch.tensor([[-2e3], [2e3]], dtype=dtype)
    assert unit_interval().constrain(far)[0].tolist() == [finfo.tiny, 1 - finfo.eps / 2]
    assert interval(-1, 4).constrain(far)[0].tolist() == [-1 + finfo.eps / 2, 4 - 2 * finfo.eps]
    assert positive().constrain(far)[0].tolist() == [finfo.tiny, math.inf]
    assert ordered(2).constrain(torch.tensor([1.0, -100.0], dtype=dtype))[0].tolist() == [1.0, 1 + finfo.eps]
    for support in (simplex(4), correlation_cholesky(4), unit_interval(3), interval(-1, 1e4, 3)):
        for z in (points(support, 100, 2e3, dtype), points(support, 100, 1.0, dtype).sign() * 2e3):
            value, log_det = support.constrain(z)
            assert support.contains(value).all()
            assert log_det.isfinite().all()
            assert support.unconstrain(value)[0].isfinite().all()


def test_values_far_out_are_inside_where_subnormal_numbers_are_nought(dtype: torch.dtype) -> None:
    """As under `torch.set_flush_denormal`, which people set for speed: what keeps a value inside must be normal."""
    tiny = torch.finfo(dtype).tiny
    assert ordered(3).constrain(torch.tensor([0.0, -2e3, -2e3], dtype=dtype))[0].tolist() == [0.0, tiny, 2 * tiny]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    try:
        bounded = positive(3), unit_interval(3), interval(-1, 0, 3), simplex(3), correlation_cholesky(3)
        for support in (*bounded, ordered(3)):
            for first in (-2e3, -1e-33, 0.0, 1e-36, 1.0):
                z = torch.full((support.size,), -2e3, dtype=dtype)
                z[0] = first
                value, _ = support.constrain(z)
                assert support.contains(value)
                assert support.unconstrain(value)[0].isfinite().all()
    finally:
        torch.set_flush_denormal(False)


def test_what_remains_keeps_its_digits(dtype: torch.dtype) -> None:
    """Shares and diagonals far below ε come back: nothing is subtracted from one."""
    eps = torch.finfo(dtype).eps
    z = torch.tensor([25.0, 30.0], dtype=dtype)
    for support in (simplex(3), correlation_cholesky(2)):
        z = z[: support.size]
        value, _ = support.constrain(z)
        assert (value[value > 0] < 1e-10).any()
        close(support.unconstrain(value)[0], z, 10 * eps)
    tiny = torch.tensor([[1.0, 0.0], [1.0, 1e-30]], dtype=dtype, requires_grad=True)
    z, _ = correlation_cholesky(2).unconstrain(tiny)
    close(z, torch.tensor([math.log(2e30)], dtype=dtype), 10 * eps)
    (gradient,) = torch.autograd.grad(z.sum(), tiny)
    assert gradient.isfinite().all()
    assert gradient[1, 1].item() == pytest.approx(-1e30, rel=1e-5)


def test_wide_samples_sum_to_one_in_float32() -> None:
    for n in (100, 3000):
        assert simplex(n).contains(simplex(n).constrain(torch.randn(50, n - 1))[0]).all()
    for n in (10, 60):
        assert (
            correlation_cholesky(n)
            .contains(correlation_cholesky(n).constrain(torch.randn(50, n * (n - 1) // 2))[0])
            .all()
        )


@pytest.mark.parametrize("support", SUPPORTS, ids=repr)
def test_gradients(support: Support) -> None:
    z = points(support, 3, 2.0).requires_grad_()
    assert torch.autograd.gradcheck(support.constrain, z)
    value = support.constrain(z)[0].detach()
    inverse = vmap(jacrev(lambda value: support.unconstrain(value)[0]))(value).reshape(3, support.size, -1)
    forward = vmap(jacrev(lambda z: support.constrain(z)[0].flatten()))(z.detach()).reshape(3, -1, support.size)
    close(inverse @ forward, torch.eye(support.size, dtype=torch.float64).expand(3, -1, -1))


@pytest.mark.parametrize("support", SUPPORTS, ids=repr)
def test_vmap(support: Support) -> None:
    z = points(support, 6, 2.0)
    for found, expected in zip(vmap(support.constrain)(z), support.constrain(z), strict=True):
        close(found, expected)
    value = support.constrain(z)[0]
    for found, expected in zip(vmap(support.unconstrain)(value), support.unconstrain(value), strict=True):
        close(found, expected)
    assert vmap(support.contains)(value).all()


@pytest.mark.parametrize("support", OUTSIDE, ids=repr)
def test_what_is_outside(support: Support, dtype: torch.dtype) -> None:
    value = torch.tensor(OUTSIDE[support], dtype=dtype)
    assert not support.contains(value).any()
    assert not support.contains(torch.full_like(value, math.nan)).any()


def test_membership_allows_for_rounding() -> None:
    y = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    for off, inside in ((1e-7, True), (-1e-7, True), (1e-5, False), (-1e-5, False)):
        assert simplex(3).contains(y + off / 3) == inside
    factor = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    for off, inside in ((1e-7, True), (1e-5, False)):
        assert correlation_cholesky(2).contains(factor * (1 + off)) == inside


# --- densities ----------------------------------------------------------------------------------------------


def midpoints(n: int, dimensions: int) -> tuple[Tensor, float]:
    """Midpoints of the unit cube's cells, (n^dimensions, dimensions), and a cell's volume."""
    axis = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.cartesian_prod(*[axis] * dimensions).reshape(-1, dimensions), n**-dimensions


def correlations(u: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The unit cube onto Cholesky factors, n = 2 or 3, and the weight of a point below the diagonal.

    Each x = 2u − 1 goes to s = x(3 − x²)/2, in (−1, 1) too but closer to the ends; then the partial correlations s
    are the entries, but for L₃₂ = s √(1 − L₃₁²).
    """
    x = 2 * u - 1
    s, weight = x * (3 - x * x) / 2, (3 * (1 - x * x)).prod(-1)
    factor = u.new_zeros(len(u), n, n)
    factor[:, 0, 0] = 1
    factor[:, 1, 0], factor[:, 1, 1] = s[:, 0], (1 - s[:, 0].square()).sqrt()
    if n == 3:
        rest = (1 - s[:, 1].square()).sqrt()
        factor[:, 2, 0], factor[:, 2, 1] = s[:, 1], s[:, 2] * rest
        factor[:, 2, 2] = rest * (1 - s[:, 2].square()).sqrt()
        weight = weight * rest
    return factor, weight


@pytest.mark.parametrize(
    "support", [unit_interval(2), interval(-1, 2, 2), positive(2), simplex(3), ordered(2), real(2)], ids=repr
)
@pytest.mark.parametrize("seed", [1, 2])
@torch.no_grad()
def test_a_density_in_the_plane_integrates_to_one(support: Support, seed: int) -> None:
    flow = perturbed(Planar(2, length=3).double(), 0.4, seed)
    u, cell = midpoints(220, 2)
    value, weight = u, torch.ones(len(u)).double()
    if support.name == "interval":
        value, weight = 3 * u - 1, weight * 9
    elif support.name == "positive":
        value, weight = u / (1 - u), (1 - u).pow(-2).prod(-1)
    elif support.name == "simplex":
        value = torch.cat([u, 1 - u.sum(-1, keepdim=True)], -1)
    elif support.name in ("ordered", "real"):
        value, weight = (2 * u - 1) / (u * (1 - u)), ((2 * u * u - 2 * u + 1) / (u * (1 - u)).square()).prod(-1)
    log_p = Supported(flow, support)().log_prob(value)
    assert (log_p.exp() * weight).sum() * cell == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("n", "cells"), [(2, 2000), (3, 48)])
@torch.no_grad()
def test_a_density_of_correlations_integrates_to_one(n: int, cells: int) -> None:
    support = correlation_cholesky(n)
    u, cell = midpoints(cells, support.size)
    factor, weight = correlations(u, n)
    flow = perturbed(Planar(support.size, length=3).double(), 0.3)
    assert (Supported(flow, support)().log_prob(factor).exp() * weight).sum() * cell == pytest.approx(1, abs=1e-3)
    lkj = LKJCholesky(n, 1.5, validate_args=False).log_prob(factor)
    assert (lkj.exp() * weight).sum() * cell == pytest.approx(1, abs=1e-3)


def test_the_base_measures_are_those_of_dirichlet_and_lkj() -> None:
    """Torch's own densities, carried to z by our log-determinants, integrate to one there, and on the grid."""
    dirichlet = Dirichlet(torch.tensor([2.0, 3.0, 1.5]).double(), validate_args=False)
    cases = [(simplex(3), dirichlet, 300, 20.0)]
    cases += [
        (correlation_cholesky(n), LKJCholesky(n, 1.5, validate_args=False), c, 12.0) for n, c in ((2, 400), (3, 50))
    ]
    for support, peer, cells, half in cases:
        u, cell = midpoints(cells, support.size)
        value, log_det = support.constrain((2 * u - 1) * half)
        log_p = peer.log_prob(value)
        assert (log_p + log_det).exp().sum() * cell * (2 * half) ** support.size == pytest.approx(1, abs=1e-3)
    u, cell = midpoints(400, 2)
    inside = u[u.sum(-1) < 1]
    value = torch.cat([inside, 1 - inside.sum(-1, keepdim=True)], -1)
    assert dirichlet.log_prob(value).exp().sum() * cell == pytest.approx(1, abs=1e-3)


def test_a_gaussian_on_the_positive_numbers_is_lognormal(dtype: torch.dtype) -> None:
    flow = perturbed(Gaussian(3)).to(dtype)
    base = flow()
    peer = Independent(LogNormal(base.mean, base.variance.sqrt()), 1)
    q = Supported(flow, positive(3))()
    y = torch.rand(50, 3, dtype=dtype) * 5 + 1e-3
    close(q.log_prob(y), peer.log_prob(y), 1e-5 if dtype == torch.float32 else 1e-12)
    scalar = Supported(perturbed(Gaussian(1)).to(dtype), positive())()
    peer = LogNormal(scalar.base.mean[0], scalar.base.variance.sqrt()[0])
    close(scalar.log_prob(y), peer.log_prob(y), 1e-5 if dtype == torch.float32 else 1e-12)


def test_a_gaussian_on_the_simplex_is_logistic_normal() -> None:
    flow = perturbed(Gaussian(3)).double()
    base = flow()
    peer = LogisticNormal(base.mean, base.variance.sqrt(), validate_args=False)
    y = Dirichlet(torch.ones(4).double()).sample((50,))
    close(Supported(flow, simplex(4))().log_prob(y), peer.log_prob(y))


def test_the_maps_are_torchs_where_torch_is_exact() -> None:
    for support, transform in (
        (positive(3), torch.distributions.ExpTransform()),
        (unit_interval(3), torch.distributions.SigmoidTransform()),
        (simplex(4), torch.distributions.StickBreakingTransform()),
        (correlation_cholesky(4), torch.distributions.CorrCholeskyTransform()),
    ):
        z = torch.randn(50, support.size).double()
        value, log_det = support.constrain(z)
        close(value, transform(z))
        expected = transform.log_abs_det_jacobian(z, value)
        close(log_det, expected.sum(-1) if expected.dim() > 1 else expected)


def test_ordered_by_hand() -> None:
    """N(0, I) at z = (0.5, 1): y = (0.5, 0.5 + e), ln p = −½(0.25 + 1) − ln 2π − 1."""
    q = Supported(Gaussian(2).double(), ordered(2))()
    y = torch.tensor([0.5, 0.5 + math.e], dtype=torch.float64)
    assert q.log_prob(y).item() == pytest.approx(-0.625 - math.log(2 * math.pi) - 1, rel=1e-12)


# --- the distribution ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("support", SUPPORTS, ids=repr)
def test_it_scores_its_own_samples(support: Support, dtype: torch.dtype) -> None:
    q = planar(support, dtype=dtype)()
    y, log_q = q.rsample_and_log_prob((500,))
    assert support.contains(y).all()
    close(q.log_prob(y), log_q, 5e-3 if dtype == torch.float32 else 1e-8)


@pytest.mark.parametrize("support", [real(), positive(3), simplex(3), correlation_cholesky(3)], ids=repr)
def test_shapes_of_the_distribution(support: Support) -> None:
    supported = planar(support, 5)
    for batch in ((), (3,), (2, 1, 3), (0,)):
        q = supported(torch.randn(*batch, 5).double())
        assert isinstance(q, torch.distributions.Distribution)
        assert isinstance(q, SupportedDistribution)
        assert (q.batch_shape, q.event_shape) == (batch, support.shape)
        assert q.has_rsample
        assert repr(q.support) == repr(support.constraint)
        for shape in ((), (4,), (2, 5)) if 0 not in batch else ():  # torch cannot validate no points at all
            y, log_q = q.rsample_and_log_prob(shape)
            assert y.shape == q.sample(shape).shape == q.rsample(shape).shape == (*shape, *batch, *support.shape)
            assert log_q.shape == q.log_prob(y).shape == (*shape, *batch)
            assert not q.sample(shape).requires_grad
        assert q.rsample_and_log_prob((0,))[0].shape == (0, *batch, *support.shape)


def test_expand() -> None:
    supported = planar(simplex(3), 5)
    for batch, target in (((), (4,)), ((3,), (2, 3)), ((1,), (4,)), ((2, 1), (5, 2, 3))):
        q = supported(torch.randn(*batch, 5).double())
        wide = q.expand(torch.Size(target))
        assert type(wide) is SupportedDistribution
        assert (wide.batch_shape, wide.event_shape) == (target, (3,))
        y, log_q = wide.rsample_and_log_prob((6,))
        assert y.shape == (6, *target, 3)
        close(log_q, q.log_prob(y))
        close(log_q, wide.log_prob(y))
        with pytest.raises(RuntimeError):
            wide.expand((9, *target[1:]))
        assert q.expand(target).expand((7, *target)).batch_shape == (7, *target)


def test_values_broadcast_against_the_batch() -> None:
    q = planar(correlation_cholesky(2), 5)(torch.randn(3, 5).double())
    y = q.sample()
    close(q.log_prob(y[0]), torch.stack([q.log_prob(y[0].expand(3, 2, 2))[i] for i in range(3)]))
    assert q.log_prob(y[:, None]).shape == (3, 3)
    bad = torch.full((3, 1, 2, 2), 7.0).double()
    assert (q.log_prob(bad) == -math.inf).all()
    assert q.log_prob(bad).shape == (3, 3)


@pytest.mark.parametrize("support", OUTSIDE, ids=repr)
def test_outside_the_density_is_nought_and_flat(support: Support, dtype: torch.dtype) -> None:
    supported = planar(support, dtype=dtype)
    q = supported()
    outside = torch.tensor(OUTSIDE[support], dtype=dtype)
    y = torch.cat([q.sample((4,)), outside]).requires_grad_()
    log_p = q.log_prob(y)
    assert log_p[:4].isfinite().all()
    assert (log_p[4:] == -math.inf).all()
    gradients = torch.autograd.grad(log_p.exp().sum() + log_p[:4].sum(), [y, *supported.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0][4:] == 0).all()
    assert (gradients[0][:4] != 0).any()
    everywhere = torch.autograd.grad(q.log_prob(outside.requires_grad_()).sum(), outside)
    assert (everywhere[0] == 0).all()


def test_nan_is_refused_unless_validation_is_off() -> None:
    for support in OUTSIDE:
        supported = planar(support)
        q = supported()
        y = q.sample((2,))
        y[1].view(-1)[0] = math.nan
        with pytest.raises(ValueError, match=r"NaN is not within the support \w+\("):
            q.log_prob(y)
        unchecked = SupportedDistribution(supported.flow(), support, validate_args=False)
        for free in (unchecked, unchecked.expand((2,))):
            found = free.log_prob(y)
            assert found[0].isfinite()
            assert found[1].isnan()


def test_validation_is_that_of_the_flows_distribution() -> None:
    flow = Gaussian(2).double()
    base = flow()
    base._validate_args = False
    q = SupportedDistribution(base, simplex(3))
    assert not q._validate_args
    assert not q.expand((2,))._validate_args
    y = q.sample((5,))
    close(vmap(q.log_prob)(y), q.log_prob(y))
    close(vmap(jacrev(q.log_prob))(y), jacrev(lambda y: q.log_prob(y).sum())(y))


def test_wrong_values_are_named() -> None:
    q = planar(simplex(3), 5)(torch.randn(2, 5).double())
    for shape in ((4,), (3, 1), ()):
        with pytest.raises(ShapeError, match=r"^points of shape \(.*\): expected \(…, 3\) for simplex\(3\)$"):
            q.log_prob(torch.ones(shape).double())
    with pytest.raises(ShapeError, match=r"points of shape \(5, 3\): do not broadcast .* \(2, 3\)$"):
        q.log_prob(torch.ones(5, 3).double())


def test_a_wrong_flow_is_named() -> None:
    with pytest.raises(ShapeError, match=r"^simplex\(3\) needs a flow of 2 features: found 4$"):
        Supported(Planar(4), simplex(3))

    class Nameless(nn.Module):
        def forward(self) -> Any:
            return Planar(4)()

    with pytest.raises(ShapeError, match=r"^simplex\(3\) needs a flow of 2 features: found 4$"):
        Supported(Nameless(), simplex(3))()
    with pytest.raises(ShapeError, match=r"event_shape \(1,\): found \(\)$"):
        SupportedDistribution(torch.distributions.Normal(0.0, 1.0), positive())
    with pytest.raises(ContextError):
        Supported(Planar(2, 5), simplex(3))()
    assert issubclass(ShapeError, FlowviError)


def test_push_is_there_where_the_flow_has_it() -> None:
    supported = planar(simplex(3))
    q = supported()
    noise = torch.randn(5, 2).double()
    y, log_q = q.push(noise)
    z, log_q_z = q.base.push(noise)
    value, log_det = simplex(3).constrain(z)
    assert torch.equal(y, value)
    assert torch.equal(log_q, log_q_z - log_det)

    class Plain(MultivariateNormal):
        def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
            z = self.rsample(sample_shape)
            return z, self.log_prob(z)

    class Foreign(nn.Module):
        """A flow of somebody else's: no `features`, no `push`."""

        def forward(self, context: Tensor) -> Plain:
            return Plain(context, torch.eye(2).double())

    q = Supported(Foreign(), simplex(3))(torch.randn(4, 2).double())
    assert not hasattr(q, "push")
    y, log_q = q.expand((3, 4)).rsample_and_log_prob((5,))
    assert y.shape == (5, 3, 4, 3)
    close(q.log_prob(y), log_q)


def test_one_seed_gives_one_sample() -> None:
    q = planar(ordered(3))()
    torch.manual_seed(7)
    y = q.sample((5,))
    torch.manual_seed(7)
    assert torch.equal(q.rsample_and_log_prob((5,))[0], y)


def test_samples_carry_gradients_to_the_flow() -> None:
    for support in SUPPORTS:
        supported = planar(support)
        y, log_q = supported().rsample_and_log_prob((5,))
        (y.square().sum() + log_q.sum()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in supported.parameters())
        assert any((p.grad != 0).any() for p in supported.parameters())


def test_copies_and_saved_weights_are_the_same_posterior() -> None:
    supported, other = planar(simplex(3)), Supported(Planar(2, length=3).double(), simplex(3))
    y = supported().sample((4,))
    expected = supported().log_prob(y)
    assert torch.equal(copy.deepcopy(supported)().log_prob(y), expected)
    assert not torch.equal(other().log_prob(y), expected)
    file = io.BytesIO()
    torch.save(supported.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other().log_prob(y), expected)
    assert "simplex(3)" in repr(supported)
    assert repr(supported()) == "SupportedDistribution(simplex(3), batch_shape: (), event_shape: (3,))"
