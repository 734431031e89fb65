"""Planar layers with a leaky ReLU, slope 0.01 below 0, against the formulas written out here in multiple precision.

f(z) = z + û·h(wᵀz + b), û = u + (m(x) − x)·w/‖w‖² with x = wᵀu; on either side of a = wᵀz + b = 0 the layer is
linear, so that its inverse is a division.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mpmath
import pytest
import torch
from torch import Tensor

from flowvi.kernels import planar_forward, planar_inverse

SLOPE = mpmath.mpf(1) / 100  # below 0

each_invertibility = pytest.mark.parametrize("invertibility", ["paper", "centred"])
each_size = pytest.mark.parametrize("features", [1, 2, 40])


def exact(values: Tensor) -> list[mpmath.mpf]:
    return [mpmath.mpf(value) for value in values.double().tolist()]


def dot(a: Sequence[mpmath.mpf], b: Sequence[mpmath.mpf]) -> mpmath.mpf:
    return mpmath.fsum(x * y for x, y in zip(a, b, strict=True))


def formula_u_hat(w: list[mpmath.mpf], u: list[mpmath.mpf], invertibility: str) -> list[mpmath.mpf]:
    x = dot(w, u)
    shift = mpmath.log(mpmath.e - 1) if invertibility == "centred" else 0
    m = -1 + mpmath.log1p(mpmath.exp(x + shift))
    return [ui + (m - x) * wi / dot(w, w) for wi, ui in zip(w, u, strict=True)]


def formula_layer(z: list[mpmath.mpf], layer: Tensor, invertibility: str) -> tuple[list[mpmath.mpf], mpmath.mpf]:
    d = len(z)
    w, u, b = exact(layer[:d]), exact(layer[d:-1]), mpmath.mpf(layer[-1].item())
    u_hat, a = formula_u_hat(w, u, invertibility), dot(w, z) + b
    slope = mpmath.mpf(1) if a >= 0 else SLOPE
    image = [zi + ui * slope * a for zi, ui in zip(z, u_hat, strict=True)]
    return image, mpmath.log(1 + dot(w, u_hat) * slope)


def formula_inverse(y: list[mpmath.mpf], layer: Tensor, invertibility: str) -> tuple[list[mpmath.mpf], mpmath.mpf]:
    """wᵀy + b = a + c·h(a), c = wᵀû: both sides of 0 are multiples of a, of its sign."""
    d = len(y)
    w, u, b = exact(layer[:d]), exact(layer[d:-1]), mpmath.mpf(layer[-1].item())
    u_hat = formula_u_hat(w, u, invertibility)
    r = dot(w, y) + b
    slope = mpmath.mpf(1) if r >= 0 else SLOPE
    factor = 1 + slope * dot(w, u_hat)
    return [yi - ui * slope * r / factor for yi, ui in zip(y, u_hat, strict=True)], mpmath.log(factor)


@each_invertibility
@each_size
def test_the_chain_is_the_formula(invertibility: str, features: int, dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    for _ in range(5):
        z = torch.randn(features, dtype=dtype)
        parameters = torch.randn(6, 2 * features + 1, dtype=dtype) * features**-0.5
        out, log_det = planar_forward(z[None, None], parameters[None], invertibility, "leaky_relu")
        with mpmath.workdps(50):
            point, total = exact(z), mpmath.mpf(0)
            for layer in parameters:
                point, one = formula_layer(point, layer, invertibility)
                total += one
            error = max(abs(a - b) for a, b in zip(exact(out[0, 0]), point, strict=True))
        assert error <= 1e3 * eps * (1 + float(out.norm()))
        assert abs(log_det.item() - float(total)) <= 1e2 * eps * (1 + abs(float(total)))


def test_one_layer_by_hand() -> None:
    """D = 1, w = 2, û = 1 from u = (softplus⁻¹(3))/2, b = −1: above 0 at z = 1 (a = 1), below at z = 0 (a = −1)."""
    u = math.log(math.expm1(3)) / 2  # m(2u) = −1 + 3 = 2 = 2û
    parameters = torch.tensor([[[2.0, u, -1.0]]], dtype=torch.float64)
    z = torch.tensor([1.0, 0.0], dtype=torch.float64)[:, None, None]
    out, log_det = planar_forward(z, parameters, "paper", "leaky_relu")
    assert out.flatten().tolist() == pytest.approx([2.0, -0.01], rel=1e-14)
    assert log_det.flatten().tolist() == pytest.approx([math.log(3), math.log(1.02)], rel=1e-14)
    back, again = planar_inverse(out, parameters, "paper", "leaky_relu")
    assert back.flatten().tolist() == pytest.approx([1.0, 0.0], rel=1e-14, abs=1e-15)
    assert again.flatten().tolist() == pytest.approx([math.log(3), math.log(1.02)], rel=1e-14)


@each_invertibility
@pytest.mark.parametrize("features", [1, 5])
@pytest.mark.parametrize("x", [-200.0, -60.0, -1.0, 0.0, 0.5, 200.0])
def test_hostile_layers_at_exact_points(invertibility: str, features: int, x: float, dtype: torch.dtype) -> None:
    """wᵀu = ±200 and wᵀz + b without rounding: values, log-determinants and the inverse of any point.

    With wᵀu = −200 the inverse stretches by e²⁰⁰, beyond float32, which is asked for e⁶⁰ at most.
    """
    eps = torch.finfo(dtype).eps
    w, u = torch.zeros(features, dtype=dtype), torch.randn(features, dtype=dtype)
    w[-1], u[-1] = 0.5, 2 * x
    for a in (0.0, 1e-30, 0.5, 1e4, -1e-30, -0.5, -1e4):
        layer = torch.cat([w, u, torch.tensor([a], dtype=dtype)])
        zero = torch.zeros(1, 1, features, dtype=dtype)
        reach = (float(u.norm()) + 2) * abs(a)  # ‖û‖ ≤ ‖u‖ + 1/‖w‖
        with mpmath.workdps(400):
            image, truth = formula_layer(exact(zero[0, 0]), layer, invertibility)
            preimage, truth_back = formula_inverse(exact(zero[0, 0]), layer, invertibility)
        out, log_det = planar_forward(zero, layer[None, None], invertibility, "leaky_relu")
        assert max(abs(p - q) for p, q in zip(exact(out[0, 0]), image, strict=True)) <= 8 * eps * reach
        assert log_det.item() == pytest.approx(float(truth), rel=16 * eps, abs=4 * eps)
        back, again = planar_inverse(zero, layer[None, None], invertibility, "leaky_relu")
        assert again.item() == pytest.approx(float(truth_back), rel=16 * eps, abs=4 * eps)
        if dtype == torch.float32 and x < -60:
            continue
        # 1 + c = softplus(x) is known as its logarithm, of size |x|
        bound = 8 * eps * (1 + abs(x)) * max(abs(value) for value in preimage)
        assert max(abs(p - q) for p, q in zip(exact(back[0, 0]), preimage, strict=True)) <= bound


@each_invertibility
@each_size
@pytest.mark.parametrize("x", [-20.0, -3.0, 0.0, 20.0, 200.0])
def test_any_point_comes_back(invertibility: str, features: int, x: float) -> None:
    """f(f⁻¹(y)) = y; where û magnifies the rounding of wᵀz more than a hundredfold, that is the bound."""
    eps = torch.finfo(torch.float64).eps
    w = torch.nn.functional.normalize(torch.randn(features, dtype=torch.float64), dim=0)
    u = torch.randn(features, dtype=torch.float64)
    u = u - (u @ w) * w + x * w
    layer = torch.cat([w, u, torch.tensor([0.5], dtype=torch.float64)])[None, None]
    y = torch.randn(64, 1, features, dtype=torch.float64) * 10
    z, log_det = planar_inverse(y, layer, invertibility, "leaky_relu")
    again, forward = planar_forward(z, layer, invertibility, "leaky_relu")
    size = y.norm(dim=-1) + (1 + u.norm()) * (z @ w + 0.5).abs()
    assert ((again - y).norm(dim=-1) <= max(100, u.norm().item()) * eps * size * 4).all()
    torch.testing.assert_close(log_det, forward, rtol=1e-12, atol=1e-12)


@each_invertibility
@each_size
def test_hostile_chains_stay_finite(invertibility: str, features: int, dtype: torch.dtype) -> None:
    """80 layers with w = 0, w ≈ 0, u = 0 and wᵀu = −200: values and gradients forward.

    An unbounded h multiplies: 1 + wᵀû = 200, over and over, would rightly overflow, so wᵀu is at most 1.
    """
    rows = []
    for k in range(80):
        w = torch.nn.functional.normalize(torch.randn(features, dtype=dtype), dim=0)
        u, b = torch.randn(features, dtype=dtype) / 8, torch.randn(1, dtype=dtype)
        match k % 5:
            case 0:
                w = torch.zeros_like(w)
            case 1:
                w = w * 1e-12
            case 2:
                u = torch.zeros_like(u)
            case 3:
                u = u - (u @ w) * w - 200 * w
        rows.append(torch.cat([w, u, b]))
    parameters = torch.stack(rows)[None].requires_grad_()
    z = torch.randn(16, 1, features, dtype=dtype, requires_grad=True)
    out, log_det = planar_forward(z, parameters, invertibility, "leaky_relu")
    assert out.isfinite().all()
    assert log_det.isfinite().all()
    for grad in torch.autograd.grad(out.mean() + log_det.mean(), (z, parameters)):
        assert grad.isfinite().all()


@each_invertibility
def test_gradients_against_finite_differences(invertibility: str) -> None:
    parameters = (torch.randn(1, 2, 5, dtype=torch.float64) * 0.7).requires_grad_()
    z = torch.randn(3, 1, 2, dtype=torch.float64, requires_grad=True)
    for chain in (planar_forward, planar_inverse):

        def run(*inputs: Tensor, chain: object = chain) -> tuple[Tensor, Tensor]:
            return chain(*inputs, invertibility, "leaky_relu")

        assert torch.autograd.gradcheck(run, (z, parameters), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(run, (z, parameters), atol=1e-4)


@each_invertibility
def test_the_log_determinant_is_that_of_autograds_jacobian(invertibility: str) -> None:
    parameters = torch.randn(1, 4, 7, dtype=torch.float64) * 0.7
    for z in torch.randn(10, 3, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(
            lambda point: planar_forward(point[None, None], parameters, invertibility, "leaky_relu")[0][0, 0], z
        )
        _, log_det = planar_forward(z[None, None], parameters, invertibility, "leaky_relu")
        assert log_det.item() == pytest.approx(jacobian.slogdet().logabsdet.item(), rel=1e-12, abs=1e-12)
        assert jacobian.det() > 0
