"""The Bernoulli kernel against the definition: values, gradients of two orders, shapes, and where it stands aside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from flowvi.kernels import bernoulli_log_prob


def definition(x: Tensor, logits: Tensor) -> Tensor:
    return torch.linalg.vecdot(logits, x) - softplus(logits, threshold=40).sum(-1)


def data(
    samples: tuple[int, ...], batch: tuple[int, ...], features: int, scale: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    x = torch.randint(2, (*batch, features)).to(dtype)
    return x, scale * torch.randn(*samples, *batch, features, dtype=dtype)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 300.0])
@pytest.mark.parametrize("features", [1, 63, 64, 65, 784])
@pytest.mark.parametrize(("samples", "batch"), [((), ()), ((), (3,)), ((4,), (3,)), ((2, 3), (2, 2)), ((50,), (40,))])
def test_value_and_gradient(
    samples: tuple[int, ...], batch: tuple[int, ...], features: int, scale: float, dtype: torch.dtype
) -> None:
    x, logits = data(samples, batch, features, scale, dtype)
    found = bernoulli_log_prob(x, logits.requires_grad_())
    weights = torch.randn_like(found)
    (gradient,) = torch.autograd.grad((found * weights).sum(), logits)
    exact = logits.detach().double()
    expected = definition(x.double(), exact)
    epsilon = torch.finfo(dtype).eps
    size = (1 + exact.abs()).sum(-1)
    assert found.dtype == dtype and found.shape == expected.shape
    assert ((found.double() - expected).abs() <= 4 * epsilon * size).all()
    by_logits = weights.double()[..., None] * (x.double() - exact.sigmoid())
    assert ((gradient.double() - by_logits).abs() <= 8 * epsilon * weights.abs().double()[..., None]).all()


def test_certain_and_extreme_logits(dtype: torch.dtype) -> None:
    logits = torch.tensor([0.0, -0.0, 88.0, -88.0, 1e4, -1e4, 1e30, -1e30], dtype=dtype)[:, None].requires_grad_()
    x = torch.zeros(1, dtype=dtype)
    found = bernoulli_log_prob(x, logits)
    torch.testing.assert_close(found, definition(x, logits))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(gradient, -logits.detach().sigmoid(), rtol=1e-6, atol=1e-37)


def test_nan_stays_nan_and_infinite_logits_are_as_by_the_definition(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, 1.0, 1.0], dtype=dtype)
    for bad in (torch.nan, torch.inf, -torch.inf):
        logits = torch.tensor([[bad, 0.0, 1.0], [0.0, bad, 1.0], [0.0, 1.0, 2.0]], dtype=dtype)
        found, expected = bernoulli_log_prob(x, logits), definition(x, logits)
        torch.testing.assert_close(found, expected, equal_nan=True)
        if bad != bad:
            (gradient,) = torch.autograd.grad(bernoulli_log_prob(x, logits.requires_grad_()).sum(), logits)
            assert torch.equal(gradient.isnan(), logits.isnan())


def test_derivatives_of_the_first_and_second_order() -> None:
    x, logits = data((2,), (3,), 5, 2.0, torch.float64)
    assert torch.autograd.gradcheck(lambda given: bernoulli_log_prob(x, given), logits.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda given: bernoulli_log_prob(x, given), logits)


@pytest.mark.parametrize("shapes", [((3, 1, 5), (3, 4, 5)), ((4, 5), (5,)), ((0, 5), (2, 0, 5)), ((3, 0), (3, 0))])
def test_other_shapes_are_as_by_the_definition(shapes: tuple[tuple[int, ...], ...]) -> None:
    x, logits = (torch.rand(shape) for shape in shapes)
    torch.testing.assert_close(bernoulli_log_prob(x, logits), definition(x, logits))


def test_memory_in_another_order() -> None:
    x, logits = data((4,), (3,), 7, 2.0, torch.float32)
    turned = logits.movedim(-1, 0).contiguous().movedim(0, -1)
    assert torch.equal(bernoulli_log_prob(x, turned), bernoulli_log_prob(x, logits))


def test_pixels_too_have_a_gradient() -> None:
    x, logits = data((2,), (3,), 5, 2.0, torch.float64)
    (gradient,) = torch.autograd.grad(bernoulli_log_prob(x.requires_grad_(), logits).sum(), x)
    torch.testing.assert_close(gradient, logits.sum(0))


def test_the_compiler_and_transforms_take_it() -> None:
    x, logits = data((), (6,), 5, 2.0, torch.float32)
    compiled = torch.compile(lambda given: bernoulli_log_prob(x, 2 * given), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits), definition(x, 2 * logits))
    jacobian = torch.func.vmap(torch.func.jacrev(bernoulli_log_prob, 1))(x, logits)
    torch.testing.assert_close(jacobian, x - logits.sigmoid())
