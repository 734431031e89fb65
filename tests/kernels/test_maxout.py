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
    units = torch.randn(shape, dtype=dtype)
    if units.numel():
        units[..., 1, 2] = units[..., 0, 2] = 9.0  # the first of equals wins
    found, expected = units.clone().requires_grad_(), units.clone().requires_grad_()
    out, want = maxout(found), expected.max(-2).values
    assert torch.equal(out, want)
    weights = torch.randn_like(want)
    assert torch.equal(*(torch.autograd.grad((o * weights).sum(), i)[0] for o, i in ((out, found), (want, expected))))
    with torch.no_grad():
        assert torch.equal(maxout(units), want)


def test_nan_stays_nan() -> None:
    units = torch.randn(2, 4, 3)
    units[0, 1, 2], units[1, 0, 0] = torch.nan, torch.nan
    assert torch.equal(maxout(units).isnan(), units.isnan().any(-2))


def test_derivatives_of_the_first_and_second_order() -> None:
    units = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(maxout, units)
    assert torch.autograd.gradgradcheck(lambda u: maxout(u).square(), units)


def test_the_compiler_and_transforms_take_it() -> None:
    units, weight = torch.randn(3, 4, 5), torch.randn(5)
    compiled = torch.compile(lambda u: maxout(2 * u) @ weight, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(units), 2 * units.amax(-2) @ weight)
    jacobian = torch.func.vmap(torch.func.jacrev(maxout))(units)
    assert torch.equal(jacobian.sum(1).sum(-2), torch.ones(3, 5))
