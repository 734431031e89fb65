"""Planar layers and their chain against the paper's formulas, written out here in multiple precision.

Rezende & Mohamed 2015, Eq. 10 to 12 and Appendix A.1: f(z) = z + û·tanh(wᵀz + b), with x = wᵀu and
û = u + (m(x) − x)·w/‖w‖².
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowvi.kernels import planar_forward, planar_inverse
from flowvi.kernels.reference import planar_layers

INVERTIBILITIES = ["paper", "centred"]
SLOPES = [-700.0, -200.0, -20.0, -1.0, -1e-3, 0.0, 0.5413, 1.0, 40.5, 200.0]  # wᵀu

each_invertibility = pytest.mark.parametrize("invertibility", INVERTIBILITIES)
each_size = pytest.mark.parametrize("features", [1, 2, 40])


def exact(values: Tensor) -> list[mpmath.mpf]:
    return [mpmath.mpf(value) for value in values.double().tolist()]


def dot(a: Sequence[mpmath.mpf], b: Sequence[mpmath.mpf]) -> mpmath.mpf:
    return mpmath.fsum(x * y for x, y in zip(a, b, strict=True))


def formula_m(x: mpmath.mpf, invertibility: str) -> mpmath.mpf:
    shift = mpmath.log(mpmath.e - 1) if invertibility == "centred" else 0
    return -1 + mpmath.log1p(mpmath.exp(x + shift))


def formula_u_hat(w: list[mpmath.mpf], u: list[mpmath.mpf], invertibility: str) -> list[mpmath.mpf]:
    if not any(w):
        return u
    x = dot(w, u)
    return [ui + (formula_m(x, invertibility) - x) * wi / dot(w, w) for wi, ui in zip(w, u, strict=True)]


def formula_chain(z: Tensor, parameters: Tensor, invertibility: str) -> tuple[list[mpmath.mpf], mpmath.mpf]:
    """The image of one point z (D) and the log-determinant, parameters (K, 2D + 1)."""
    d, point, log_det = len(z), exact(z), mpmath.mpf(0)
    for layer in parameters:
        w, u, b = exact(layer[:d]), exact(layer[d:-1]), mpmath.mpf(layer[-1].item())
        u_hat, a = formula_u_hat(w, u, invertibility), dot(w, point) + b
        log_det += mpmath.log(1 + dot(w, u_hat) * (1 - mpmath.tanh(a) ** 2))
        point = [zi + ui * mpmath.tanh(a) for zi, ui in zip(point, u_hat, strict=True)]
    return point, log_det


def with_slope(features: int, x: float, dtype: torch.dtype, size: float = 1.0) -> tuple[Tensor, Tensor]:
    """w of length `size` and u with wᵀu = x, most of u along w."""
    w = torch.nn.functional.normalize(torch.randn(features, dtype=dtype), dim=0)
    u = torch.randn(features, dtype=dtype)
    return w * size, (u - (u @ w) * w + x * w) / size


def one_layer(w: Tensor, u: Tensor, b: float) -> Tensor:
    return torch.cat([w, u, torch.tensor([b], dtype=w.dtype)])[None, None]


def hostile(features: int, length: int, dtype: torch.dtype, tiny: float = 1e-30) -> Tensor:
    """Layers in turn: w = 0, w ≈ 0, w subnormal, wᵀu = −200, +200, saturated, u = 0, plain."""
    rows = []
    for k in range(length):
        w, u, b = (
            torch.randn(features, dtype=dtype),
            torch.randn(features, dtype=dtype),
            torch.randn(1, dtype=dtype),
        )
        match k % 8:
            case 0:
                w = torch.zeros_like(w)
            case 1:
                w = w * tiny
            case 2:
                w = w * torch.finfo(dtype).tiny / 64
            case 3:
                w, u = with_slope(features, -200.0, dtype)
            case 4:
                w, u = with_slope(features, 200.0, dtype)
            case 5:
                b = b.sign() * 1e4
            case 6:
                u = torch.zeros_like(u)
        rows.append(torch.cat([w, u, b]))
    return torch.stack(rows)[None]


# --- û ------------------------------------------------------------------------------------------------------


@each_invertibility
@each_size
@pytest.mark.parametrize("x", SLOPES)
def test_u_hat_is_the_formula(invertibility: str, features: int, x: float, dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    for size in (1e-3, 1.0, 1e3):
        w, u = with_slope(features, x, dtype, size)
        layers = planar_layers(one_layer(w, u, 0.0), invertibility)
        scale = float(u.norm()) + 1 / size
        with mpmath.workdps(340):
            truth = formula_u_hat(exact(w), exact(u), invertibility)
            slack = 1 + dot(exact(w), truth)
            error = max(abs(found - value) for found, value in zip(exact(layers.u_hat[0, 0]), truth, strict=True))
            assert slack > 0
            assert error <= 8 * eps * scale
            # ln(1 + wᵀû) has slope at most 1 in x, and x is rounded
            assert abs(mpmath.log(slack) - layers.log_slack.item()) <= 8 * eps * (1 + float(u.norm()) * size)
            assert dot(exact(w), exact(layers.u_hat[0, 0])) > -1 - 8 * eps * size * scale
        if invertibility == "centred":
            assert layers.u_hat.norm() <= u.norm() * (1 + 8 * eps)


numbers = st.floats(-5, 5, width=32)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6),
    st.floats(-12, 3),
    st.sampled_from(INVERTIBILITIES),
)
def test_u_hat_always_leaves_the_layer_invertible(pairs: list, exponent: float, invertibility: str) -> None:
    w, u = (torch.tensor(values, dtype=torch.float64) for values in zip(*pairs, strict=True))
    w = w * 10**exponent
    layers = planar_layers(one_layer(w, u, 0.0), invertibility)
    length, slope = w.norm().item(), (w @ layers.u_hat[0, 0]).item()
    assert slope > -1 - 1e-13 * length * (u.norm().item() + 1)
    assert layers.log_slack.exp().item() - 1 == pytest.approx(slope, rel=1e-9, abs=1e-12 * (1 + length))
    if invertibility == "centred":
        assert layers.u_hat.norm() <= u.norm() * (1 + 1e-14)
    # only the part of u along w changes
    if length > 0:
        change, along = layers.u_hat[0, 0] - u, w / length
        torch.testing.assert_close(change, (change @ along) * along, rtol=1e-9, atol=1e-12)


@each_invertibility
def test_u_hat_of_a_tiny_w(invertibility: str, dtype: torch.dtype) -> None:
    """Down to the smallest normal numbers, where the paper's û grows like 0.307/‖w‖."""
    for size in (1e-4, 1e-12, 1e-30, 3e-38 if dtype == torch.float32 else 1e-300):
        w, u = torch.tensor([3.0, -4.0], dtype=dtype) * (size / 5), torch.tensor([2.0, 1.0], dtype=dtype)
        layers = planar_layers(one_layer(w, u, 0.0), invertibility)
        with mpmath.workdps(700):
            truth = formula_u_hat(exact(w), exact(u), invertibility)
        expected = torch.tensor([float(value) for value in truth], dtype=dtype)
        torch.testing.assert_close(layers.u_hat[0, 0], expected, rtol=1e-5 if dtype == torch.float32 else 1e-13, atol=0)


@each_invertibility
@each_size
def test_no_w_is_a_translation(invertibility: str, features: int, dtype: torch.dtype) -> None:
    u, z = torch.randn(features, dtype=dtype), torch.randn(7, 1, features, dtype=dtype)
    for w in (torch.zeros_like(u), torch.full_like(u, torch.finfo(dtype).smallest_normal / 4)):
        parameters = one_layer(w, u, 0.7)
        assert torch.equal(planar_layers(parameters, invertibility).u_hat[0, 0], u)
        out, log_det = planar_forward(z, parameters, invertibility)
        torch.testing.assert_close(out, z + u * math.tanh(0.7))
        assert (log_det == 0).all()
        back, log_det = planar_inverse(out, parameters, invertibility)
        torch.testing.assert_close(back, z)
        assert (log_det == 0).all()


# --- the chain ----------------------------------------------------------------------------------------------


def test_one_layer_by_hand() -> None:
    """D = 1, w = 2, u = 1, b = −1 at z = 1: û = softplus(2)/2 − 1/2, the slope 1 + 2û·sech²(1) above 1."""
    u_hat = math.log(1 + math.exp(2)) / 2 - 0.5
    z = torch.ones(1, 1, 1, dtype=torch.float64)
    parameters = torch.tensor([[[2.0, 1.0, -1.0]]], dtype=torch.float64)
    out, log_det = planar_forward(z, parameters, "paper")
    assert out.item() == pytest.approx(1 + u_hat * math.tanh(1), rel=1e-14)
    assert log_det.item() == pytest.approx(math.log(1 + 2 * u_hat / math.cosh(1) ** 2), rel=1e-14)
    assert log_det.item() > 0
    back, again = planar_inverse(out, parameters, "paper")
    assert back.item() == pytest.approx(1, rel=1e-14)
    assert again.item() == pytest.approx(log_det.item(), rel=1e-14)


@each_invertibility
@each_size
def test_the_chain_is_the_formula(invertibility: str, features: int, dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    for _ in range(5):
        z = torch.randn(features, dtype=dtype)
        parameters = torch.randn(6, 2 * features + 1, dtype=dtype) * features**-0.5
        out, log_det = planar_forward(z[None, None], parameters[None], invertibility)
        with mpmath.workdps(50):
            truth, log_det_truth = formula_chain(z, parameters, invertibility)
            error = max(abs(a - b) for a, b in zip(exact(out[0, 0]), truth, strict=True))
        assert error <= 1e3 * eps * (1 + float(out.norm()))
        assert abs(log_det.item() - float(log_det_truth)) <= 1e3 * eps * (1 + abs(float(log_det_truth)))


@each_invertibility
@each_size
@pytest.mark.parametrize("x", [-200.0, -20.0, 200.0])
def test_the_log_determinant_at_hostile_points(invertibility: str, features: int, x: float, dtype: torch.dtype) -> None:
    """One layer with wᵀu = ±200, at wᵀz + b = a to the last bit: only rounding parts it from the truth."""
    eps, z = torch.finfo(dtype).eps, torch.zeros(1, 1, features, dtype=dtype)
    w, u = torch.zeros(features, dtype=dtype), torch.randn(features, dtype=dtype)
    w[-1], u[-1] = 0.5, 2 * x
    for a in (0.0, 1e-30, 1e-3, 0.5, 3.0, 30.0, 1e4):
        parameters = one_layer(w, u, a)
        out, log_det = planar_forward(z, parameters, invertibility)
        with mpmath.workdps(340):
            _, truth = formula_chain(z[0, 0], parameters[0], invertibility)
        assert log_det.item() == pytest.approx(float(truth), rel=16 * eps, abs=4 * eps)
        back, again = planar_inverse(out, parameters, invertibility)
        assert back.isfinite().all()
        assert again.isfinite().all()


@each_invertibility
@each_size
def test_hostile_chains_stay_finite_both_ways(invertibility: str, features: int, dtype: torch.dtype) -> None:
    """80 layers, values and gradients; the paper's û ∝ 1/‖w‖ has a gradient ∝ 1/‖w‖², so its w is larger."""
    parameters = hostile(features, 80, dtype, 1e-12 if invertibility == "paper" else 1e-30).requires_grad_()
    z = torch.randn(16, 1, features, dtype=dtype, requires_grad=True)
    for chain in (planar_forward, planar_inverse):
        out, log_det = chain(z, parameters, invertibility)
        assert out.isfinite().all()
        assert log_det.isfinite().all()
        for quantity in (out.mean(), log_det.mean()):
            for grad in torch.autograd.grad(quantity, (z, parameters), retain_graph=True):
                assert grad.isfinite().all()


@each_invertibility
def test_a_w_of_1e_30_keeps_the_values_finite(invertibility: str, dtype: torch.dtype) -> None:
    parameters = hostile(3, 80, dtype)
    z = torch.randn(16, 1, 3, dtype=dtype)
    for chain in (planar_forward, planar_inverse):
        out, log_det = chain(z, parameters, invertibility)
        assert out.isfinite().all()
        assert log_det.isfinite().all()


@each_invertibility
@each_size
@pytest.mark.parametrize("x", [-200.0, -20.0, 0.0, 20.0, 200.0])
def test_any_point_comes_back(invertibility: str, features: int, x: float, dtype: torch.dtype) -> None:
    """f(f⁻¹(y)) = y to 100·ε of the terms for points that the forward map never made.

    Where û magnifies the rounding of wᵀz more than a hundredfold, that is the bound.
    """
    for size in (0.1, 1.0, 10.0):
        w, u = with_slope(features, x, dtype, size)
        parameters = one_layer(w, u, 0.5)
        y = torch.randn(256, 1, features, dtype=dtype) * 10 / size
        z, log_det = planar_inverse(y, parameters, invertibility)
        again, _ = planar_forward(z, parameters, invertibility)
        _, log_det_in_double = planar_forward(z.double(), parameters.double(), invertibility)
        reach = planar_layers(parameters, invertibility).u_hat.norm().item()
        bound = torch.finfo(dtype).eps * (y.norm(dim=-1) + reach) * max(100, reach * w.norm().item())
        assert ((again - y).norm(dim=-1) <= bound).all()
        assert log_det.isfinite().all()
        settled = log_det_in_double > -10  # not on the fold, where the determinant is all but zero
        assert settled.double().mean() > 0.5
        torch.testing.assert_close(log_det[settled].double(), log_det_in_double[settled], rtol=1e-2, atol=1e-3)


@each_invertibility
def test_rows_of_parameters_belong_to_rows_of_points(invertibility: str, dtype: torch.dtype) -> None:
    parameters, z = torch.randn(4, 3, 5, dtype=dtype), torch.randn(6, 4, 2, dtype=dtype)
    for chain in (planar_forward, planar_inverse):
        out, log_det = chain(z, parameters, invertibility)
        assert out.shape == (6, 4, 2)
        assert log_det.shape == (6, 4)
        for row in range(4):
            alone, alone_log_det = chain(z[:, row : row + 1], parameters[row : row + 1], invertibility)
            torch.testing.assert_close(out[:, row : row + 1], alone)
            torch.testing.assert_close(log_det[:, row : row + 1], alone_log_det)


@each_invertibility
@pytest.mark.parametrize("chain", [planar_forward, planar_inverse])
def test_gradients_against_finite_differences(invertibility: str, chain: object) -> None:
    """Through the inverse too, where they come from the implicit function theorem."""
    parameters = torch.randn(1, 2, 5, dtype=torch.float64)
    parameters[0, 1] *= 0.01  # near the branch of m at x = 0, and near w = 0
    z = torch.randn(2, 1, 2, dtype=torch.float64)
    inputs = (z.requires_grad_(), parameters.requires_grad_())
    assert torch.autograd.gradcheck(lambda *args: chain(*args, invertibility), inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda *args: chain(*args, invertibility), inputs, atol=1e-4)


@each_invertibility
def test_the_gradient_of_u_hat_is_smooth_in_x(invertibility: str) -> None:
    """d(wᵀû)/dx = m′(x) = the logistic of x (+ ln(e − 1)), across every branch of the code."""
    shift = math.log(math.e - 1) if invertibility == "centred" else 0.0
    x = torch.tensor([-300.0, -41, -40, -20.5, -20, -5, -1, -0.9, -1e-9, 0, 1e-9, 0.9, 1, 5, 20, 39, 41, 300]).double()
    x.requires_grad_()
    ones = torch.ones_like(x)
    layers = planar_layers(torch.stack([ones, x, 0 * ones], -1)[:, None], invertibility)
    (slope,) = torch.autograd.grad(layers.u_hat.sum(), x, retain_graph=True)
    torch.testing.assert_close(slope, torch.sigmoid(x + shift), rtol=1e-12, atol=1e-15)
    (slope,) = torch.autograd.grad(layers.log_slack.sum(), x)
    expected = torch.sigmoid(x + shift) / torch.nn.functional.softplus(x + shift, threshold=50)
    torch.testing.assert_close(slope, expected, rtol=1e-8, atol=0)


@each_invertibility
@pytest.mark.parametrize("x", [-200.0, 0.5, 200.0])
def test_the_log_determinant_is_even_in_a(invertibility: str, x: float, dtype: torch.dtype) -> None:
    """d ln|det|/da at a = wᵀz + b is odd, 0 at 0 exactly, and tanh²'s 2/a near it where wᵀû → −1."""
    a = torch.tensor([0.0, 1e-37, -1e-37, 1e-20, -1e-20, 0.3, -0.3], dtype=dtype)
    z = a[:, None, None].clone().requires_grad_()
    for chain in (planar_forward, planar_inverse):
        _, log_det = chain(z, one_layer(*torch.tensor([[1.0], [x]], dtype=dtype), 0.0), invertibility)
        (slope,) = torch.autograd.grad(log_det.sum(), z)
        assert slope.isfinite().all()
        assert slope[0] == 0
        assert torch.equal(slope[1::2], -slope[2::2])
        if x < 0 and chain is planar_forward:
            assert slope[3].item() == pytest.approx(2e20, rel=1e-5)


@each_invertibility
def test_gradients_of_the_two_directions_agree(invertibility: str, dtype: torch.dtype) -> None:
    """By the parameters, of the log-determinant at z and of the inverse at f(z): total derivatives."""
    parameters = (torch.randn(1, 4, 7, dtype=dtype) * 0.5).requires_grad_()
    z = torch.randn(5, 1, 3, dtype=dtype)
    out, log_det = planar_forward(z, parameters, invertibility)
    # f⁻¹(f(z; θ); θ) = z whatever θ: its gradient by θ vanishes, and the log-determinant's is the forward one
    back, again = planar_inverse(out, parameters, invertibility)
    weights = torch.randn_like(back)
    (gone,) = torch.autograd.grad((back * weights).sum(), parameters, retain_graph=True)
    (forward,) = torch.autograd.grad(log_det.sum(), parameters, retain_graph=True)
    (through,) = torch.autograd.grad(again.sum(), parameters)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(gone, torch.zeros_like(gone), rtol=0, atol=tolerance)
    torch.testing.assert_close(through, forward, rtol=tolerance, atol=tolerance)
