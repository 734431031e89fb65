"""Radial layers and their chain against the paper's formulas, written out here in multiple precision.

Rezende & Mohamed 2015, Eq. 14 and Appendix A.2: f(z) = z + β̂·h(α, r)·(z − z_ref) with r = ‖z − z_ref‖ and
h = 1/(α + r), α = softplus(a), β̂ = −α + softplus(β); |det ∂f/∂z| = [1 + β̂h]^{D−1} [1 + β̂h + β̂h′r].
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowvi.kernels import radial_forward, radial_inverse

RAW = [-200.0, -44.0, -20.0, -1.0, 0.0, 1.0, 20.0, 200.0]  # a and β
LEAST = {torch.float32: 2.2737e-13, torch.float64: 2.8126e-103}  # of α and softplus(β): ∛ of the smallest normal number

each_size = pytest.mark.parametrize("features", [1, 2, 40])
each_way = pytest.mark.parametrize("chain", [radial_forward, radial_inverse])


class Numbers(NamedTuple):
    """A layer's α and s = softplus(β), to many digits."""

    alpha: mpmath.mpf
    s: mpmath.mpf


def exact(values: Tensor) -> list[mpmath.mpf]:
    return [mpmath.mpf(value) for value in values.double().tolist()]


def length(values: list[mpmath.mpf]) -> mpmath.mpf:
    return mpmath.sqrt(mpmath.fsum(value**2 for value in values))


def formula_numbers(a: float, beta: float, dtype: torch.dtype) -> Numbers:
    # the bound as the code has it, to the last bit: the cube root of the smallest normal number
    least = torch.tensor(torch.finfo(dtype).tiny ** (1 / 3), dtype=dtype).item()
    return Numbers(*(max(mpmath.log1p(mpmath.exp(raw)), mpmath.mpf(least)) for raw in (a, beta)))


def formula_log_det(r: mpmath.mpf, layer: Numbers, features: int) -> mpmath.mpf:
    """In both forms, which must agree."""
    alpha, s = layer
    beta_hat = s - alpha
    h, h_prime = 1 / (alpha + r), -1 / (alpha + r) ** 2
    paper = (1 + beta_hat * h) ** (features - 1) * (1 + beta_hat * h + beta_hat * h_prime * r)
    ours = ((r + s) / (alpha + r)) ** (features - 1) * (r**2 + 2 * alpha * r + alpha * s) / (alpha + r) ** 2
    assert mpmath.almosteq(paper, ours, rel_eps=mpmath.mpf(10) ** -30)
    return mpmath.log(ours)


def formula_forward(
    z: list[mpmath.mpf], reference: list[mpmath.mpf], layer: Numbers
) -> tuple[list[mpmath.mpf], mpmath.mpf]:
    offset = [a - b for a, b in zip(z, reference, strict=True)]
    r = length(offset)
    h = 1 / (layer.alpha + r)
    image = [a + (layer.s - layer.alpha) * h * b for a, b in zip(z, offset, strict=True)]
    return image, formula_log_det(r, layer, len(z))


def formula_inverse(
    y: list[mpmath.mpf], reference: list[mpmath.mpf], layer: Numbers
) -> tuple[list[mpmath.mpf], mpmath.mpf, mpmath.mpf]:
    """The preimage, the log-determinant there, and the largest stretch of the inverse."""
    offset = [a - b for a, b in zip(y, reference, strict=True)]
    alpha, s = layer
    size = length(offset)
    # r + (s − α)·r/(α + r) = R: the only root of r² + (s − R)·r − α·R that is not negative
    r = (size - s + mpmath.sqrt((size - s) ** 2 + 4 * alpha * size)) / 2
    assert size == 0 or mpmath.almosteq(r + (s - alpha) * r / (alpha + r), size, rel_eps=mpmath.mpf(10) ** -30)
    ratio = (alpha + r) / (s + r)
    stretch = max(ratio, (alpha + r) ** 2 / (r**2 + 2 * alpha * r + alpha * s))
    image = [b + ratio * o for b, o in zip(reference, offset, strict=True)]
    return image, formula_log_det(r, layer, len(y)), stretch


def one_layer(reference: Tensor, a: float, beta: float) -> Tensor:
    return torch.cat([reference, torch.tensor([a, beta], dtype=reference.dtype)])[None, None]


def largest(found: Tensor, truth: list[mpmath.mpf]) -> float:
    return float(max(abs(a - b) for a, b in zip(exact(found), truth, strict=True)))


# --- one layer ----------------------------------------------------------------------------------------------


def test_one_layer_by_hand(dtype: torch.dtype) -> None:
    """z_ref = 0, α = 1, β̂ = 1 at z = (3, 4): r = 5, h = 1/6, f(z) = 7/6·z, |det| = 7/6·(7/6 − 5/36) = 259/216."""
    a, beta = math.log(math.e - 1), math.log(math.e**2 - 1)  # softplus: 1 and 2
    parameters = torch.tensor([[[0.0, 0.0, a, beta]]], dtype=dtype)
    z = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]], dtype=dtype)
    out, log_det = radial_forward(z, parameters)
    tolerance = 4 * torch.finfo(dtype).eps
    assert out[0, 0].tolist() == pytest.approx([3.5, 14 / 3], rel=tolerance)
    assert out[1, 0].tolist() == [0, 0]
    # at the reference point itself: 1 + β̂/α = 2 in both directions
    assert log_det[:, 0].tolist() == pytest.approx([math.log(259 / 216), math.log(4)], rel=4 * tolerance)
    back, again = radial_inverse(out, parameters)
    assert back[0, 0].tolist() == pytest.approx([3, 4], rel=tolerance)
    assert back[1, 0].tolist() == [0, 0]
    assert again[:, 0].tolist() == pytest.approx([math.log(259 / 216), math.log(4)], rel=4 * tolerance)


def test_a_contraction_by_hand() -> None:
    """D = 1, z_ref = 1, α = 3, s = 1, β̂ = −2 at z = 2: r = 1, f = 2 − 2/4 = 1.5; slope 1 − 2/4 + 2/16 = 0.625."""
    parameters = torch.tensor([[[1.0, math.log(math.e**3 - 1), math.log(math.e - 1)]]], dtype=torch.float64)
    out, log_det = radial_forward(torch.full((1, 1, 1), 2.0, dtype=torch.float64), parameters)
    assert out.item() == pytest.approx(1.5, rel=1e-14)
    assert log_det.item() == pytest.approx(math.log(0.625), rel=1e-14)
    back, again = radial_inverse(out, parameters)
    assert back.item() == pytest.approx(2, rel=1e-14)
    assert again.item() == pytest.approx(math.log(0.625), rel=1e-14)


@each_size
@pytest.mark.parametrize("size", [0.0, 1e-10, 1e-3, 1.0, 1e6])
def test_hostile_layers_are_the_formula_both_ways(features: int, size: float, dtype: torch.dtype) -> None:
    """Every pair of a and β, at points from z_ref itself to 10⁶ away from it."""
    eps = torch.finfo(dtype).eps
    reference = torch.randn(features, dtype=dtype) if size >= 1e-3 else torch.zeros(features, dtype=dtype)
    away = torch.nn.functional.normalize(torch.randn(features, dtype=dtype), dim=0)
    z = reference + size * away
    with mpmath.workdps(220):
        z_exact, reference_exact = exact(z), exact(reference)
        for a, beta in itertools.product(RAW, RAW):
            parameters = one_layer(reference, a, beta)
            layer = formula_numbers(a, beta, dtype)
            scale = float(length(z_exact) + length(reference_exact))

            image, truth = formula_forward(z_exact, reference_exact, layer)
            out, log_det = radial_forward(z[None, None], parameters)
            # z − z_ref is rounded; the layer stretches that by at most max(1, s/α) or as it does here
            assert largest(out[0, 0], image) <= 8 * eps * (scale + float(length(image)))
            wobble = float(stretch_of_log_det(z_exact, reference_exact, layer, features)) * scale
            assert abs(log_det.item() - truth) <= 8 * eps * (features + abs(truth) + wobble)

            preimage, truth, stretch = formula_inverse(z_exact, reference_exact, layer)
            back, log_det = radial_inverse(z[None, None], parameters)
            bound = 8 * eps * (float(length(preimage)) + (1 + float(stretch)) * scale)
            assert largest(back[0, 0], preimage) <= bound
            # of the logarithms at a point known to `bound`
            wobble = float(stretch_of_log_det(preimage, reference_exact, layer, features)) * bound / eps
            assert abs(log_det.item() - truth) <= 8 * eps * (features + abs(truth)) + 2 * eps * wobble


def stretch_of_log_det(z: list[mpmath.mpf], reference: list[mpmath.mpf], layer: Numbers, features: int) -> mpmath.mpf:
    """A bound of |d ln|det|/dr|, its terms without their signs' help."""
    alpha, s = layer
    r = length([a - b for a, b in zip(z, reference, strict=True)])
    across = abs(s - alpha) / ((alpha + r) * (s + r))
    along = 2 * alpha * abs(s - alpha) / ((alpha + r) * (r**2 + 2 * alpha * r + alpha * s))
    return (features - 1) * across + along


@each_size
def test_at_the_reference_point(features: int, dtype: torch.dtype) -> None:
    """Values and, there only, the exact Jacobian: (s/α) I, hence ln|det| = D·ln(s/α)."""
    for a, beta in itertools.product([-20.0, 0.0, 200.0], repeat=2):
        reference = torch.randn(features, dtype=dtype)
        parameters = one_layer(reference, a, beta)
        ratio = math.log1p(math.exp(-abs(beta))) + max(beta, 0)
        ratio /= math.log1p(math.exp(-abs(a))) + max(a, 0)
        for chain, factor in ((radial_forward, ratio), (radial_inverse, 1 / ratio)):
            point = reference.clone().requires_grad_()
            out, log_det = chain(point[None, None], parameters)
            assert torch.equal(out[0, 0], reference)
            eps = torch.finfo(dtype).eps
            assert log_det.item() == pytest.approx(features * math.log(ratio), rel=16 * eps, abs=8 * features * eps)
            rows = [torch.autograd.grad(out[0, 0, i], point, retain_graph=True)[0] for i in range(features)]
            jacobian = torch.stack(rows)
            torch.testing.assert_close(jacobian, factor * torch.eye(features, dtype=dtype), rtol=16 * eps, atol=0)


@each_size
def test_alpha_and_s_have_a_floor(features: int, dtype: torch.dtype) -> None:
    for a, beta in ((-1000.0, 0.0), (0.0, -1000.0), (-1000.0, -1000.0)):
        _, log_det = radial_forward(
            torch.zeros(1, 1, features, dtype=dtype), one_layer(torch.zeros(features, dtype=dtype), a, beta)
        )
        alpha, s = (LEAST[dtype] if raw else math.log(2) for raw in (a, beta))
        assert log_det.item() == pytest.approx(features * math.log(s / alpha), rel=1e-4, abs=1e-12)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    st.floats(-200, 200, width=32),
    st.floats(-200, 200, width=32),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_beta_hat_is_never_below_minus_alpha(a: float, beta: float, dtype: torch.dtype) -> None:
    """Seen in the map itself: r + β̂·r/(α + r) ≥ 0 and grows with r, whatever a and β."""
    r = torch.tensor([0.0, 1e-12, 1e-6, 1e-3, 0.1, 1.0, 10.0, 1e3, 1e6], dtype=dtype)
    out, log_det = radial_forward(r[:, None, None], one_layer(torch.zeros(1, dtype=dtype), a, beta))
    image = out.flatten()
    assert log_det.isfinite().all()
    assert image[0] == 0
    assert (image[1:] > 0).all()
    assert (image.diff() >= -8 * torch.finfo(dtype).eps * image[1:]).all()


@each_way
@each_size
def test_equal_numbers_are_the_identity_exactly(chain: object, features: int, dtype: torch.dtype) -> None:
    """β = a, a row of parameters for each value."""
    raw = torch.tensor([*RAW, 0.5413], dtype=dtype)
    z = torch.randn(8, len(raw), features, dtype=dtype)
    parameters = torch.randn(len(raw), 80, features + 2, dtype=dtype)
    parameters[..., features:] = raw[:, None, None]
    z[0] = parameters[:, 0, :features]
    out, log_det = chain(z, parameters)
    assert torch.equal(out, z)
    assert (log_det == 0).all()


# --- chains -------------------------------------------------------------------------------------------------


@each_size
def test_the_chain_is_the_formula(features: int, dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    for _ in range(5):
        z, parameters = torch.randn(features, dtype=dtype), torch.randn(6, features + 2, dtype=dtype)
        out, log_det = radial_forward(z[None, None], parameters[None])
        with mpmath.workdps(50):
            point, total = exact(z), mpmath.mpf(0)
            for layer in parameters:
                numbers = formula_numbers(layer[-2].item(), layer[-1].item(), dtype)
                point, one = formula_forward(point, exact(layer[:features]), numbers)
                total += one
            error = largest(out[0, 0], point)
        assert error <= 50 * eps * (1 + float(out.norm()))
        assert abs(log_det.item() - float(total)) <= 50 * eps * (features + abs(float(total)))


@each_size
def test_any_point_comes_back_through_80_layers(features: int, dtype: torch.dtype) -> None:
    """The residual, and the round trip to what the chain's Jacobian stretches and shrinks."""
    eps = torch.finfo(dtype).eps
    parameters = torch.randn(1, 80, features + 2, dtype=dtype)
    y = torch.randn(64, 1, features, dtype=dtype) * 3
    z, log_det = radial_inverse(y, parameters)
    again, forward = radial_forward(z, parameters)
    scale = 1 + float(parameters.norm(dim=-1).max()) + y.norm(dim=-1)
    jacobian = torch.func.vmap(
        torch.func.jacrev(lambda point: radial_forward(point[None, None], parameters.double())[0][0, 0])
    )(z[:, 0].double())
    values = torch.linalg.svdvals(jacobian)
    kappa = values[:, :1].clamp(min=1) / values[:, -1:].clamp(max=1)  # at D = 1 the stretch itself
    assert ((again - y).norm(dim=-1) <= 100 * 80 * eps * scale).all()
    assert ((log_det - forward).abs() <= 100 * 80 * eps * kappa).all()
    back, _ = radial_inverse(again, parameters)
    assert ((back - z).norm(dim=-1) <= 100 * 80 * eps * scale * kappa).all()
    assert ((forward - jacobian.slogdet().logabsdet[:, None]).abs() <= 100 * 80 * eps * kappa).all()


@each_way
@each_size
def test_hostile_chains_stay_finite(chain: object, features: int, dtype: torch.dtype) -> None:
    """80 layers with a and β in ±200, from z_ref, next to it, and 10⁶ away: values and gradients."""
    raw = torch.tensor(RAW, dtype=dtype)
    parameters = torch.randn(1, 80, features + 2, dtype=dtype)
    parameters[..., features:] = raw[torch.randint(len(raw), (1, 80, 2))]
    first = parameters[0, 0 if chain is radial_forward else -1, :features].clone()
    z = torch.randn(16, 1, features, dtype=dtype)
    z[0], z[1], z[2] = first, first * (1 + torch.finfo(dtype).eps), z[2] * 1e6
    z.requires_grad_(), parameters.requires_grad_()
    out, log_det = chain(z, parameters)
    for quantity in (out, log_det):
        assert quantity.isfinite().all()
        for grad in torch.autograd.grad(quantity.mean(), (z, parameters), retain_graph=True):
            assert grad.isfinite().all()


@each_way
@each_size
def test_gradients_near_the_reference_point_are_finite(chain: object, features: int, dtype: torch.dtype) -> None:
    """Every pair of a and β, and distances down to where squares underflow, and up to where they nearly overflow."""
    pairs = torch.tensor(list(itertools.product(RAW, RAW)), dtype=dtype)
    parameters = torch.cat([torch.zeros(len(pairs), features, dtype=dtype), pairs], -1)[:, None].requires_grad_()
    sizes = [0.0, 1e-42, 1e-38, 1e-30, 1e-22, 1e-20, 1e-18, 1e-15, 1e-12, 1e-10, 1e-3, 1.0, 1e6, 1e15]
    away = torch.nn.functional.normalize(torch.randn(features, dtype=dtype), dim=0)
    z = (torch.tensor(sizes, dtype=dtype)[:, None, None] * away).expand(-1, len(pairs), -1).clone().requires_grad_()
    out, log_det = chain(z, parameters)
    for quantity in (out, log_det):
        assert quantity.isfinite().all()
        for grad in torch.autograd.grad(quantity.sum(), (z, parameters), retain_graph=True):
            assert grad.isfinite().all()


@each_way
def test_gradients_against_finite_differences(chain: object) -> None:
    parameters = torch.randn(1, 2, 4, dtype=torch.float64)
    parameters[0, 0, 2:], parameters[0, 1, 2:] = torch.tensor([3.0, -2.0]), torch.tensor([-2.0, 1.0])
    z = torch.randn(3, 1, 2, dtype=torch.float64)
    inputs = (z.requires_grad_(), parameters.requires_grad_())
    assert torch.autograd.gradcheck(chain, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(chain, inputs, atol=1e-4)


@each_way
def test_second_derivatives_at_the_reference_point_are_finite(chain: object) -> None:
    parameters = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    z = parameters[0, 0 if chain is radial_forward else -1, :2].detach().clone()[None, None].requires_grad_()
    out, log_det = chain(z, parameters)
    grads = torch.autograd.grad(out.sum() + log_det.sum(), (z, parameters), create_graph=True)
    for grad in torch.autograd.grad(sum(g.square().sum() for g in grads), (z, parameters)):
        assert grad.isfinite().all()


def test_gradients_of_the_two_directions_agree(dtype: torch.dtype) -> None:
    """f⁻¹(f(z; θ); θ) = z whatever θ, and the log-determinant there is the forward one: total derivatives by θ."""
    parameters = torch.randn(1, 4, 5, dtype=dtype, requires_grad=True)
    z = torch.randn(5, 1, 3, dtype=dtype)
    out, log_det = radial_forward(z, parameters)
    back, again = radial_inverse(out, parameters)
    (gone,) = torch.autograd.grad((back * torch.randn_like(back)).sum(), parameters, retain_graph=True)
    (forward,) = torch.autograd.grad(log_det.sum(), parameters, retain_graph=True)
    (through,) = torch.autograd.grad(again.sum(), parameters)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(gone, torch.zeros_like(gone), rtol=0, atol=tolerance)
    torch.testing.assert_close(through, forward, rtol=tolerance, atol=tolerance)


@each_way
def test_rows_of_parameters_belong_to_rows_of_points(chain: object, dtype: torch.dtype) -> None:
    parameters, z = torch.randn(4, 3, 4, dtype=dtype), torch.randn(6, 4, 2, dtype=dtype)
    out, log_det = chain(z, parameters)
    assert out.shape == (6, 4, 2)
    assert log_det.shape == (6, 4)
    for row in range(4):
        alone, alone_log_det = chain(z[:, row : row + 1], parameters[row : row + 1])
        torch.testing.assert_close(out[:, row : row + 1], alone)
        torch.testing.assert_close(log_det[:, row : row + 1], alone_log_det)
