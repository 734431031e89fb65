"""Sylvester flows against the paper's formulas, written out here: loops, matrices, and multiple precision.

van den Berg et al. 2018: f(z) = z + Q R tanh(R̃ Qᵀz + b), R and R̃ upper triangular, QᵀQ = I.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import mpmath
import pytest
import torch
from torch import Tensor

from flowvi.flows import Sylvester
from flowvi.flows.sylvester import SylvesterChain, orthonormal

VARIANTS = ["orthogonal", "householder", "triangular"]

each_variant = pytest.mark.parametrize("variant", VARIANTS)


# --- Q ------------------------------------------------------------------------------------------------------


def gram_schmidt(numbers: Tensor) -> mpmath.matrix:
    """Columns made orthonormal from the left, each in the direction that it had: R's diagonal is positive."""
    d, m = numbers.shape
    done: list[list[mpmath.mpf]] = []
    for j in range(m):
        column = [mpmath.mpf(value) for value in numbers[:, j].double().tolist()]
        for q in done:
            along = mpmath.fsum(a * b for a, b in zip(q, column, strict=True))
            column = [a - along * b for a, b in zip(column, q, strict=True)]
        size = mpmath.sqrt(mpmath.fsum(a * a for a in column))
        done.append([a / size for a in column])
    return mpmath.matrix([[q[i] for q in done] for i in range(d)])


def columns_of_every_kind(d: int, m: int, dtype: torch.dtype) -> dict[str, Tensor]:
    plain = torch.randn(3, d, m, dtype=dtype)
    sizes = 10 ** (torch.rand(m, dtype=dtype) * 35 - 20)
    return {
        "generic": plain,
        "nearly dependent": plain[..., :1] + 1e-6 * plain,
        "dependent": plain[..., :1].expand_as(plain).clone(),
        "zero": torch.zeros_like(plain),
        "every other one zero": plain * (torch.arange(m) % 2),
        "huge": plain * 1e15,
        "tiny": plain * 1e-20,
        "of every size": plain * sizes,
        "along the axes": torch.eye(d, m, dtype=dtype).flip(0).expand(3, d, m).clone(),
        "against the axes": -torch.eye(d, m, dtype=dtype).expand(3, d, m).clone(),
    }


@pytest.mark.parametrize(("d", "m"), [(1, 1), (2, 1), (2, 2), (5, 3), (8, 8), (40, 8), (40, 40)])
def test_q_is_orthonormal_whatever_the_numbers(d: int, m: int, dtype: torch.dtype) -> None:
    eye, eps = torch.eye(m, dtype=dtype), torch.finfo(dtype).eps
    for name, numbers in columns_of_every_kind(d, m, dtype).items():
        q = orthonormal(numbers)
        assert (q.mT @ q - eye).abs().max() <= 10 * eps * max(1, m**0.5 / 2), name


@pytest.mark.parametrize(("d", "m"), [(2, 1), (2, 2), (5, 3), (6, 6)])
def test_q_is_gram_and_schmidts(d: int, m: int, dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    kinds = columns_of_every_kind(d, m, dtype)
    for name in ("generic", "huge", "tiny", "of every size", "along the axes", "against the axes"):
        for numbers, q in zip(kinds[name], orthonormal(kinds[name]), strict=True):
            with mpmath.workdps(60):
                truth = gram_schmidt(numbers)
                error = max(abs(truth[i, j] - q[i, j].item()) for i in range(d) for j in range(m))
            unit = numbers.double() / numbers.double().norm(dim=0)
            assert error <= 20 * eps * float(torch.linalg.cond(unit)), name


def test_q_does_not_jump_where_an_entry_changes_sign() -> None:
    """The pivots of the reflections, through 0 one after the other."""
    numbers = torch.randn(5, 3, dtype=torch.float64)
    for i in range(5):
        for j in range(3):
            low, middle, high = (numbers.clone() for _ in range(3))
            low[i, j], middle[i, j], high[i, j] = -1e-9, 0, 1e-9
            assert (orthonormal(low) - orthonormal(middle)).abs().max() <= 1e-7
            assert (orthonormal(high) - orthonormal(middle)).abs().max() <= 1e-7
    # the pivot of the second column, which is not an entry of it
    a, b = torch.randn(2, 4, dtype=torch.float64)
    for pivot in (0, 1, 2, 3):
        turns = torch.linspace(-2, 2, 4001, dtype=torch.float64)[:, None, None]
        moving = torch.stack([a, b], -1) + turns * torch.eye(4, dtype=torch.float64)[pivot][:, None]
        assert orthonormal(moving).diff(dim=0).abs().max() <= 0.05


@pytest.mark.parametrize(("d", "m"), [(2, 2), (4, 2), (4, 4)])
def test_gradients_of_q(d: int, m: int) -> None:
    numbers = torch.randn(2, d, m, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(orthonormal, (numbers,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(orthonormal, (numbers,), atol=1e-4)


@pytest.mark.parametrize(("d", "m"), [(3, 3), (10, 4), (40, 40)])
def test_dependent_columns_have_finite_gradients(d: int, m: int, dtype: torch.dtype) -> None:
    """What rounding leaves of a column that depends on those before it is no direction to differentiate."""
    numbers = torch.ones(d, m, dtype=dtype) * torch.randn(d, 1, dtype=dtype)
    numbers = (numbers * torch.arange(1, m + 1)).requires_grad_()
    q = orthonormal(numbers)
    torch.testing.assert_close(q.mT @ q, torch.eye(m, dtype=dtype), rtol=0, atol=20 * torch.finfo(dtype).eps)
    (gradient,) = torch.autograd.grad((q * torch.randn_like(q)).sum(), numbers)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e3 * m / numbers.detach().abs().min()


def test_gradients_of_q_where_a_pivot_is_exactly_zero() -> None:
    for rows in ([[0.0, 1.0], [1.0, 0.0], [0.5, 0.3]], [[0.0, 0.0], [0.0, 2.0], [1.0, 0.0]], [[0.0], [1.0]]):
        numbers = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(orthonormal, (numbers,))


@pytest.mark.parametrize(("d", "m"), [(2, 1), (2, 2), (5, 3), (40, 8)])
def test_gradients_of_q_are_finite(d: int, m: int, dtype: torch.dtype) -> None:
    for name, numbers in columns_of_every_kind(d, m, dtype).items():
        numbers.requires_grad_()
        q = orthonormal(numbers)
        (grad,) = torch.autograd.grad((q * torch.randn_like(q)).sum(), numbers)
        assert grad.isfinite().all(), name


# --- the layers ---------------------------------------------------------------------------------------------


class Written(NamedTuple):
    """A layer's matrices, as Python numbers."""

    q: mpmath.matrix
    r: mpmath.matrix
    r_tilde: mpmath.matrix
    b: mpmath.matrix


def written_out(parameters: Tensor, k: int, d: int, m: int, variant: str, reflections: int) -> Written:
    """Layer k of (K, P): Q's numbers, R and R̃ above their diagonals row by row, d, d̃, b."""
    values = [mpmath.mpf(value) for value in parameters[k].double().tolist()]
    q = mpmath.matrix(d, m)
    for j in range(m):
        q[j if variant != "triangular" or k % 2 == 0 else d - 1 - j, j] = 1
    if variant == "orthogonal":
        q = gram_schmidt(parameters[k, : d * m].reshape(d, m))
        values = values[d * m :]
    if variant == "householder":
        for _ in range(reflections):
            v, values = mpmath.matrix(values[:d]), values[d:]
            q = q - 2 * v * (v.T * q) / (v.T * v)[0]
    r, r_tilde = mpmath.matrix(m, m), mpmath.matrix(m, m)
    for matrix in (r, r_tilde):
        for i in range(m):
            for j in range(i + 1, m):
                matrix[i, j] = values.pop(0)
    for matrix in (r, r_tilde):
        for i in range(m):
            matrix[i, i] = mpmath.tanh(values.pop(0))
    assert len(values) == m
    return Written(q, r, r_tilde, mpmath.matrix(values))


def formula_layer(z: mpmath.matrix, layer: Written) -> tuple[mpmath.matrix, mpmath.mpf]:
    """The image and ln|det| of the whole D × D Jacobian I + Q R diag(tanh′) R̃ Qᵀ."""
    q, r, r_tilde, b = layer
    a = r_tilde * (q.T * z) + b
    tanh = mpmath.matrix([mpmath.tanh(value) for value in a])
    slope = mpmath.diag([1 - value**2 for value in tanh])
    jacobian = mpmath.eye(len(z)) + q * r * slope * r_tilde * q.T
    return z + q * (r * tanh), mpmath.log(abs(mpmath.det(jacobian)))


def chains(d: int, m: int, variant: str, length: int, dtype: torch.dtype) -> tuple[SylvesterChain, Tensor]:
    chain = SylvesterChain(d, m, variant, reflections=3)
    return chain, torch.randn(1, length, chain.size, dtype=dtype)


@each_variant
@pytest.mark.parametrize(("d", "m"), [(1, 1), (3, 2), (4, 4)])
def test_the_chain_is_the_formula(variant: str, d: int, m: int, dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    for _ in range(3):
        chain, parameters = chains(d, m, variant, 3, dtype)
        z = torch.randn(d, dtype=dtype)
        out, log_det = chain.forward(z[None, None], parameters)
        with mpmath.workdps(40):
            point, total = mpmath.matrix(z.double().tolist()), mpmath.mpf(0)
            for k in range(3):
                point, one = formula_layer(point, written_out(parameters[0], k, d, m, variant, 3))
                total += one
            error = max(abs(point[i] - out[0, 0, i].item()) for i in range(d))
        assert error <= 1e3 * eps * (1 + float(out.norm()))
        assert abs(log_det.item() - total) <= 1e3 * eps * (1 + abs(total))


@each_variant
@pytest.mark.parametrize("init", ["identity", "xavier", "normal"])
def test_the_log_determinant_is_that_of_autograds_jacobian(variant: str, init: str) -> None:
    flow = Sylvester(6, length=3, variant=variant, bottleneck=4, init=init).double()
    chain, parameters = flow.links[0].chain, flow.links[0](None).conditioning[None]
    for z in torch.randn(5, 6, dtype=torch.float64) * 2:
        jacobian = torch.autograd.functional.jacobian(
            lambda point: chain.forward(point[None, None], parameters)[0][0, 0], z
        )
        _, log_det = chain.forward(z[None, None], parameters)
        assert log_det.item() == pytest.approx(jacobian.slogdet().logabsdet.item(), rel=1e-11, abs=1e-11)
        assert jacobian.det() > 0


def test_one_layer_by_hand() -> None:
    """D = 2, M = 1 along (0.6, 0.8), r = tanh d = ½, r̃ = −½, b = ½ at z = (1, 0): s = 0.6, a = 0.2."""
    half = math.atanh(0.5)
    parameters = torch.tensor([[[3.0, 4.0, half, -half, 0.5]]], dtype=torch.float64)
    chain = SylvesterChain(2, 1, "orthogonal")
    out, log_det = chain.forward(torch.tensor([[[1.0, 0.0]]], dtype=torch.float64), parameters)
    tanh = math.tanh(0.2)
    assert out.flatten().tolist() == pytest.approx([1 + 0.3 * tanh, 0.4 * tanh], rel=1e-14)
    assert log_det.item() == pytest.approx(math.log(1 - 0.25 * (1 - tanh**2)), rel=1e-13)
    back, again = chain.inverse(out, parameters)
    assert back.flatten().tolist() == pytest.approx([1, 0], rel=1e-14, abs=1e-15)
    assert again.item() == pytest.approx(log_det.item(), rel=1e-13)


def test_the_inverse_is_the_root_of_the_formula() -> None:
    """D = M = 2 by a multidimensional root finder that knows nothing of triangles."""
    chain, parameters = chains(2, 2, "orthogonal", 1, torch.float64)
    y = torch.randn(6, 1, 2, dtype=torch.float64) * 2
    found, log_det = chain.inverse(y, parameters)
    with mpmath.workdps(30):
        layer = written_out(parameters[0], 0, 2, 2, "orthogonal", 3)
        for target, point, one in zip(y[:, 0].tolist(), found[:, 0].tolist(), log_det[:, 0].tolist(), strict=True):

            def off(a: mpmath.mpf, b: mpmath.mpf, target: list[float] = target) -> list[mpmath.mpf]:
                image, _ = formula_layer(mpmath.matrix([a, b]), layer)
                return [image[0] - target[0], image[1] - target[1]]

            truth = mpmath.findroot(off, target)
            assert [float(value) for value in truth] == pytest.approx(point, rel=1e-12, abs=1e-12)
            assert float(formula_layer(truth, layer)[1]) == pytest.approx(one, rel=1e-11, abs=1e-12)


@each_variant
@pytest.mark.parametrize(("d", "m"), [(1, 1), (2, 2), (7, 3), (20, 20)])
def test_any_point_comes_back(variant: str, d: int, m: int, dtype: torch.dtype) -> None:
    """f(f⁻¹(y)) = y for points that the forward map never made, through 4 layers."""
    eps = torch.finfo(dtype).eps
    chain = SylvesterChain(d, m, variant)
    parameters = torch.randn(1, 4, chain.size, dtype=dtype) * (1 if m <= 3 else 0.3)
    y = torch.randn(64, 1, d, dtype=dtype) * 3
    z, log_det = chain.inverse(y, parameters)
    again, forward = chain.forward(z, parameters)
    # of what each layer adds: ‖R‖ in all
    scale = y.norm(dim=-1) + 4 * m * parameters.abs().max()
    stretch = float((1 + m * parameters.abs().max()) ** 2) if m > 3 else 100
    assert ((again - y).norm(dim=-1) <= 400 * eps * scale * max(1, stretch / 100)).all()
    jacobian = torch.func.vmap(
        torch.func.jacrev(lambda point: chain.forward(point[None, None], parameters.double())[0][0, 0])
    )(z[:, 0].double())
    values = torch.linalg.svdvals(jacobian)
    kappa = values[:, :1].clamp(min=1) / values[:, -1:].clamp(max=1)
    good = kappa * eps < 1e-3
    assert good.double().mean() > 0.5
    error = ((log_det - forward).abs() / kappa)[good]
    assert (error <= 400 * eps * (1 + scale[good])).all()
    truth = jacobian.slogdet().logabsdet[:, None]
    assert (((forward - truth).abs() / kappa)[good] <= 400 * eps * (1 + scale[good])).all()


def test_one_dimension_is_the_planar_layer() -> None:
    """M = 1: û = r q, w = r̃ q, written directly as z + û·tanh(wᵀz + b)."""
    d = 5
    chain, parameters = chains(d, 1, "orthogonal", 1, torch.float64)
    numbers, diagonal, diagonal_tilde, b = parameters[0, 0].split([d, 1, 1, 1])
    q = numbers / numbers.norm()
    u_hat, w = diagonal.tanh() * q, diagonal_tilde.tanh() * q
    z = torch.randn(50, d, dtype=torch.float64)
    a = z @ w + b
    out, log_det = chain.forward(z[:, None], parameters)
    torch.testing.assert_close(out[:, 0], z + u_hat * a.tanh()[:, None], rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(log_det[:, 0], torch.log(1 + (w @ u_hat) / a.cosh() ** 2), rtol=1e-12, atol=1e-13)
    back, again = chain.inverse(out, parameters)
    torch.testing.assert_close(back[:, 0], z, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(again, log_det, rtol=1e-11, atol=1e-12)
    # and the planar scalar equation, by bisection, for other points
    y = torch.randn(50, d, dtype=torch.float64) * 3
    low, high = (torch.full((50,), end, dtype=torch.float64) for end in (-100.0, 100.0))
    for _ in range(200):
        middle = (low + high) / 2
        above = middle + (w @ u_hat) * middle.tanh() > y @ w + b
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    truth = y - u_hat * low.tanh()[:, None]
    torch.testing.assert_close(chain.inverse(y[:, None], parameters)[0][:, 0], truth, rtol=1e-12, atol=1e-12)


HOSTILE = [-200.0, -20.0, -1.0, -1e-4, 0.0, 1e-4, 1.0, 20.0, 200.0]


@pytest.mark.parametrize("d", HOSTILE)
@pytest.mark.parametrize("d_tilde", HOSTILE)
def test_the_slack_is_positive_and_right(d: float, d_tilde: float, dtype: torch.dtype) -> None:
    """ln(1 + r·r̃) as it is where tanh′ = 1: D = M = 1, z = b = 0. It is e⁻⁴⁰⁰ at worst, and 0 at R = 0."""
    chain = SylvesterChain(1, 1, "triangular")
    parameters = torch.tensor([[[d, d_tilde, 0.0]]], dtype=dtype)
    _, log_det = chain.forward(torch.zeros(1, 1, 1, dtype=dtype), parameters)
    with mpmath.workdps(400):
        slack = 1 + mpmath.tanh(parameters[0, 0, 0].item()) * mpmath.tanh(parameters[0, 0, 1].item())
        assert slack > 0
        truth = float(mpmath.log(slack))
    eps = torch.finfo(dtype).eps
    assert log_det.item() == pytest.approx(truth, rel=4 * eps, abs=4 * eps)
    if d == 0 or d_tilde == 0:
        assert log_det.item() == pytest.approx(0, abs=eps)


@each_variant
@pytest.mark.parametrize(("d", "m"), [(1, 1), (2, 2), (9, 4)])
def test_hostile_chains_stay_finite_both_ways(variant: str, d: int, m: int, dtype: torch.dtype) -> None:
    """40 layers with diagonals in ±200, saturated and dependent: values and gradients."""
    chain, parameters = chains(d, m, variant, 40, dtype)
    raw = torch.tensor(HOSTILE, dtype=dtype)
    parameters[..., -3 * m : -m] = raw[torch.randint(len(raw), (1, 40, 2 * m))]
    parameters[:, ::5, -m:] *= 1e3
    parameters[:, ::7, : -3 * m] = 0
    parameters.requires_grad_()
    z = torch.randn(8, 1, d, dtype=dtype, requires_grad=True)
    for direction in (chain.forward, chain.inverse):
        out, log_det = direction(z, parameters)
        for quantity in (out, log_det):
            assert quantity.isfinite().all()
            for grad in torch.autograd.grad(quantity.mean(), (z, parameters), retain_graph=True):
                assert grad.isfinite().all()


@each_variant
def test_gradients_against_finite_differences(variant: str) -> None:
    """Through the inverse too."""
    chain, parameters = chains(3, 2, variant, 1, torch.float64)
    parameters = parameters.requires_grad_()
    z = torch.randn(2, 1, 3, dtype=torch.float64, requires_grad=True)
    for direction in (chain.forward, chain.inverse):
        assert torch.autograd.gradcheck(direction, (z, parameters), check_forward_ad=True)
        if variant == "triangular":  # Q's own second derivatives are checked above
            assert torch.autograd.gradgradcheck(direction, (z, parameters), atol=1e-4)


def test_second_derivatives_at_the_start() -> None:
    """R = 0, where the chain starts as the identity: d = 0 exactly."""
    chain = SylvesterChain(2, 2, "triangular")
    torch.manual_seed(3)
    parameters = chain.start("identity", 1)[None].double().requires_grad_()
    z = torch.randn(2, 1, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: chain.forward(z, p), (parameters,))
    assert torch.autograd.gradgradcheck(lambda p: chain.forward(z, p), (parameters,), atol=1e-5)


@each_variant
def test_the_start_is_the_identity(variant: str, dtype: torch.dtype) -> None:
    chain = SylvesterChain(6, 4, variant)
    parameters = chain.start("identity", 5)[None].to(dtype)
    z = torch.randn(7, 1, 6, dtype=dtype)
    for direction in (chain.forward, chain.inverse):
        out, log_det = direction(z, parameters)
        assert torch.equal(out, z)
        assert log_det.abs().max() <= 5 * 4 * 4 * torch.finfo(dtype).eps
