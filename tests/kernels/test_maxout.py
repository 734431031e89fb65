"""Maxout against torch's own maximum, values and gradients."""

from __future__ import annotations

import pytest
import torch

from flowvi.kernels import maxout


@pytest.mark.parametrize("kernel", ["cpu", "reference"])
@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5), (100, 4, 400), (0, 4, 3)])
def test_value_and_gradient(
    shape: tuple[int, ...], kernel: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWVI_KERNEL", kernel)
    units, bias = torch.randn(shape, dtype=dtype), torch.randn(shape[-2:], dtype=dtype)
    if units.numel():
        units[..., 1, 2] = units[..., 0, 2] = 9.0  # the first of equals wins
        bias[1, 2] = bias[0, 2] = 0.0
    found, expected = ([each.clone().requires_grad_() for each in (units, bias)] for _ in range(2))
    out, want = maxout(*found), (expected[0] + expected[1]).max(-2).values
    assert torch.equal(out, want)
    weights = torch.randn_like(want)
    grads, wants = (torch.autograd.grad((o * weights).sum(), i) for o, i in ((out, found), (want, expected)))
    assert torch.equal(grads[0], wants[0])
    torch.testing.assert_close(grads[1], wants[1])
    with torch.no_grad():
        assert torch.equal(maxout(units, bias), want)


def test_nan_stays_nan() -> None:
    units = torch.randn(2, 4, 3)
    units[0, 1, 2], units[1, 0, 0] = torch.nan, torch.nan
    assert torch.equal(maxout(units, torch.zeros(4, 3)).isnan(), units.isnan().any(-2))


def test_derivatives_of_the_first_and_second_order() -> None:
    units, bias = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 4), (3, 4)))
    assert torch.autograd.gradcheck(maxout, (units, bias))
    assert torch.autograd.gradgradcheck(lambda u, b: maxout(u, b).square(), (units, bias))


def test_the_compiler_and_transforms_take_it() -> None:
    units, bias, weight = torch.randn(3, 4, 5), torch.randn(4, 5), torch.randn(5)
    compiled = torch.compile(lambda u: maxout(2 * u, bias) @ weight, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(units), (2 * units + bias).amax(-2) @ weight)
    jacobian = torch.func.vmap(torch.func.jacrev(maxout), (0, None))(units, bias)
    assert torch.equal(jacobian.sum(1).sum(-2), torch.ones(3, 5))
