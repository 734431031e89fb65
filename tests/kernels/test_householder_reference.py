"""Reflections against the explicit matrices I − 2vvᵀ/‖v‖² (Tomczak & Welling 2016), in multiple precision."""

from __future__ import annotations

import mpmath
import pytest
import torch
from torch import Tensor

from flowvi.kernels import householder_forward, householder_inverse

each_way = pytest.mark.parametrize("chain", [householder_forward, householder_inverse])
each_size = pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e12, 1e30])


def formula_matrix(v: Tensor) -> mpmath.matrix:
    values = [mpmath.mpf(value) for value in v.double().tolist()]
    square = mpmath.fsum(value**2 for value in values)
    matrix = mpmath.eye(len(values))
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            matrix[i, j] -= 2 * a * b / square
    return matrix


@each_size
@pytest.mark.parametrize("features", [2, 5])
def test_the_chain_is_the_product_of_the_matrices(features: int, size: float, dtype: torch.dtype) -> None:
    """Three layers of four reflections, the first on the right."""
    eps = torch.finfo(dtype).eps
    parameters = torch.randn(1, 3, 4 * features, dtype=dtype) * size
    z = torch.randn(features, dtype=dtype)
    with mpmath.workdps(120):
        matrix = mpmath.eye(features)
        for v in parameters.reshape(-1, features):
            matrix = formula_matrix(v) * matrix
        point = mpmath.matrix(z.double().tolist())
        for chain, truth in ((householder_forward, matrix * point), (householder_inverse, matrix.T * point)):
            out, log_det = chain(z[None, None], parameters)
            error = max(abs(truth[i] - out[0, 0, i].item()) for i in range(features))
            assert error <= 12 * 8 * eps * float(z.norm())
            assert (log_det == 0).all()
            assert log_det.dtype == dtype


def test_one_reflection_pair_by_hand() -> None:
    """v = (1, 0) and then (1, 1): (x, y) → (−x, y) → (−y, x), a quarter turn."""
    parameters = torch.tensor([[[1.0, 0.0, 1.0, 1.0]]], dtype=torch.float64)
    out, _ = householder_forward(torch.tensor([[[2.0, 3.0]]], dtype=torch.float64), parameters)
    torch.testing.assert_close(out, torch.tensor([[[-3.0, 2.0]]], dtype=torch.float64))
    back, _ = householder_inverse(out, parameters)
    torch.testing.assert_close(back, torch.tensor([[[2.0, 3.0]]], dtype=torch.float64))


@each_way
@each_size
@pytest.mark.parametrize("features", [2, 40])
def test_orthogonal_after_160_reflections(chain: object, size: float, features: int, dtype: torch.dtype) -> None:
    parameters = torch.randn(1, 80, 2 * features, dtype=dtype) * size
    rows, _ = chain(torch.eye(features, dtype=dtype)[:, None], parameters)
    gram = rows[:, 0] @ rows[:, 0].mT
    bound = 1e-12 if dtype == torch.float64 else 1e-5
    assert torch.linalg.matrix_norm(gram - torch.eye(features, dtype=dtype), 2) <= bound


@each_way
def test_vectors_with_entries_of_every_size(chain: object, dtype: torch.dtype) -> None:
    size = 10 ** (torch.rand(1, 80, 12) * 60 - 30)
    parameters = (torch.randn(1, 80, 12) * size).to(dtype)
    rows, _ = chain(torch.eye(6, dtype=dtype)[:, None], parameters)
    gram = rows[:, 0] @ rows[:, 0].mT
    torch.testing.assert_close(gram, torch.eye(6, dtype=dtype), rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5)


@each_way
def test_the_inverse_undoes_the_forward_chain(chain: object, dtype: torch.dtype) -> None:
    parameters, z = torch.randn(3, 80, 14, dtype=dtype), torch.randn(5, 3, 7, dtype=dtype)
    other = householder_inverse if chain is householder_forward else householder_forward
    back, _ = other(chain(z, parameters)[0], parameters)
    torch.testing.assert_close(back, z, rtol=0, atol=400 * torch.finfo(dtype).eps)


@each_way
def test_no_vector_reflects_nothing(chain: object, dtype: torch.dtype) -> None:
    z = torch.randn(4, 1, 3, dtype=dtype)
    for value in (0.0, torch.finfo(dtype).smallest_normal / 4):
        out, log_det = chain(z, torch.full((1, 2, 6), value, dtype=dtype))
        assert torch.equal(out, z)
        assert (log_det == 0).all()
    # one of two
    parameters = torch.tensor([[[0.0, 0.0, 0.0, 1.0, 0.0, 0.0]]], dtype=dtype)
    out, _ = chain(z, parameters)
    assert torch.equal(out, z * torch.tensor([-1, 1, 1], dtype=dtype))


@each_way
def test_gradients_against_finite_differences(chain: object) -> None:
    parameters = torch.randn(1, 2, 6, dtype=torch.float64, requires_grad=True)
    z = torch.randn(3, 1, 3, dtype=torch.float64, requires_grad=True)

    def image(*inputs: Tensor) -> Tensor:
        return chain(*inputs)[0]

    assert torch.autograd.gradcheck(image, (z, parameters), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(image, (z, parameters))


@each_way
def test_gradients_are_finite_where_there_is_no_vector(chain: object, dtype: torch.dtype) -> None:
    parameters = torch.randn(1, 4, 6, dtype=dtype)
    parameters[0, 0], parameters[0, 1, :3], parameters[0, 2] = 0, 0, parameters[0, 2] * 1e-25
    parameters.requires_grad_()
    z = torch.randn(3, 1, 3, dtype=dtype, requires_grad=True)
    for grad in torch.autograd.grad((chain(z, parameters)[0] ** 3).sum(), (z, parameters)):
        assert grad.isfinite().all()


@each_way
def test_rows_of_parameters_belong_to_rows_of_points(chain: object, dtype: torch.dtype) -> None:
    parameters, z = torch.randn(4, 3, 6, dtype=dtype), torch.randn(6, 4, 3, dtype=dtype)
    out, log_det = chain(z, parameters)
    assert out.shape == (6, 4, 3)
    assert log_det.shape == (6, 4)
    for row in range(4):
        torch.testing.assert_close(out[:, row : row + 1], chain(z[:, row : row + 1], parameters[row : row + 1])[0])
