"""RealNVP against plain loops over its own weights, coordinate by coordinate (Dinh et al. 2017), and against zuko."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.distributions import Distribution

from flowvi.flows import RealNVP


def network(module: nn.Module, inputs: list[float], context: list[float] | None = None) -> list[float]:
    """A tanh network from its weights; the context enters the first hidden layer."""
    values = inputs
    for k, layer in enumerate(module.layers):
        values = [math.tanh(value) for value in values] if k else values
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        values = [
            start + sum(w * v for w, v in zip(row, values, strict=True))
            for start, row in zip(bias, weight, strict=True)
        ]
        if k == 0 and context is not None:
            rows = module.context.weight.tolist()
            added = [sum(w * c for w, c in zip(row, context, strict=True)) for row in rows]
            values = [value + more for value, more in zip(values, added, strict=True)]
    return values


def layer_by_loops(z: list[float], k: int, layer: nn.Module, context: list[float] | None) -> tuple[list[float], float]:
    """Even layers read the first ⌊D/2⌋ coordinates and change the rest; odd ones the other way round."""
    d = len(z)
    first, last = list(range(d // 2)), list(range(d // 2, d))
    read, changed = (first, last) if k % 2 == 0 else (last, first)
    numbers = network(layer.network, [z[i] for i in read], context)
    assert len(numbers) == 2 * len(changed)
    out, total = list(z), 0.0
    for place, i in enumerate(changed):
        s = 2 * math.tanh(numbers[place] / 2)
        out[i] = z[i] * math.exp(s) + numbers[len(changed) + place]
        total += s
    return out, total


def moved(flow: nn.Module, size: float = 0.3) -> nn.Module:
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += size * torch.randn_like(parameter)
    return flow


@pytest.mark.parametrize("features", [2, 5])
@pytest.mark.parametrize("context", [0, 3])
def test_the_chain_is_the_loop(features: int, context: int) -> None:
    flow = moved(RealNVP(features, context, 3, hidden=(7, 6)).double())
    chain = flow.links[0].chain
    given = torch.randn(1, context, dtype=torch.float64) if context else None
    for z in torch.randn(3, features, dtype=torch.float64):
        point, total = z.tolist(), 0.0
        for k, layer in enumerate(chain.layers):
            point, one = layer_by_loops(point, k, layer, given[0].tolist() if context else None)
            total += one
        out, log_det = chain.forward(z[None, None], given)
        assert out.flatten().tolist() == pytest.approx(point, rel=1e-12, abs=1e-13)
        assert log_det.item() == pytest.approx(total, rel=1e-12, abs=1e-13)
        back, again = chain.inverse(out, given)
        assert back.flatten().tolist() == pytest.approx(z.tolist(), rel=1e-11, abs=1e-12)
        assert again.item() == pytest.approx(total, rel=1e-11, abs=1e-12)
        jacobian = torch.autograd.functional.jacobian(lambda point: chain.forward(point[None, None], given)[0][0, 0], z)
        assert jacobian.slogdet().logabsdet.item() == pytest.approx(total, rel=1e-11, abs=1e-12)


def test_no_layer_stretches_by_more_than_e_squared(dtype: torch.dtype) -> None:
    """Whatever the weights."""
    flow = moved(RealNVP(6, 0, 10).to(dtype), 100.0)
    z = torch.randn(200, 1, 6, dtype=dtype)
    largest = 0.0
    for layer in flow.links[0].chain.layers:
        _, log_det = layer(z, None)
        assert log_det.abs().max() <= 2 * 3 * (1 + torch.finfo(dtype).eps)
        largest = max(largest, log_det.abs().max().item())
        # one coordinate at a time: the slope of what is changed by itself
        changed = slice(3, 6) if layer.first else slice(0, 3)
        point = z.clone().requires_grad_()
        out, _ = layer(point, None)
        for i in range(6)[changed]:
            (slope,) = torch.autograd.grad(out[..., i].sum(), point, retain_graph=True)
            assert slope[..., i].max() <= math.e**2 * (1 + 1e-5)
            assert slope[..., i].min() >= math.e**-2 * (1 - 1e-5)
    assert largest > 5  # the bound is reached


def test_deep_chains_come_back(dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    flow = RealNVP(10, 0, 20, init="xavier").to(dtype)
    y = torch.randn(32, 1, 10, dtype=dtype) * 2
    chain = flow.links[0].chain
    z, log_det = chain.inverse(y, None)
    again, forward = chain.forward(z, None)
    double = RealNVP(10, 0, 20).double()
    double.load_state_dict(flow.state_dict())
    jacobian = torch.func.vmap(
        torch.func.jacrev(lambda point: double.links[0].chain.forward(point[None, None], None)[0][0, 0])
    )(z[:, 0].double())
    kappa = torch.linalg.cond(jacobian)[:, None]
    assert ((again - y).norm(dim=-1) <= 100 * 20 * eps * (1 + y.norm(dim=-1)) * kappa.clamp(max=1e3)[:, 0, None]).all()
    assert ((log_det - forward).abs() <= 100 * 20 * eps * kappa).all()
    assert ((forward - jacobian.slogdet().logabsdet[:, None]).abs() <= 100 * 20 * eps * kappa).all()


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_against_finite_differences(direction: str) -> None:
    chain = moved(RealNVP(3, 2, 2, hidden=(3,)).double()).links[0].chain
    z = torch.randn(2, 1, 3, dtype=torch.float64, requires_grad=True)
    context = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(chain, direction), (z, context))


@pytest.fixture
def transforms() -> ModuleType:
    """zuko's, whose import switches off the validation of arguments in torch: it is put back."""
    validates = Distribution._validate_args
    zuko = pytest.importorskip("zuko")
    Distribution.set_default_validate_args(validates)
    return zuko.transforms


def test_a_layer_is_zukos_coupling_of_the_same_numbers(transforms: ModuleType) -> None:
    flow = moved(RealNVP(5, 0, 2, hidden=(7,)).double())
    z = torch.randn(20, 5, dtype=torch.float64)
    for layer, held in zip(flow.links[0].chain.layers, ([1, 1, 0, 0, 0], [0, 0, 1, 1, 1]), strict=True):

        def affine(read: torch.Tensor, at: nn.Module = layer) -> object:
            s, t = at.network(read, None).chunk(2, -1)
            s = 2 * torch.tanh(s / 2)
            bend = -math.log(1e-3)  # zuko bounds log-scales by x/(1 + |x|/bend)
            univariate = transforms.MonotonicAffineTransform(t, s / (1 - s.abs() / bend), slope=1e-3)
            return transforms.DependentTransform(univariate, 1)

        other = transforms.CouplingTransform(affine, torch.tensor(held, dtype=torch.bool))
        out, log_det = layer(z[:, None], None)
        expected, ladj = other.call_and_ladj(z)
        torch.testing.assert_close(out[:, 0], expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(log_det[:, 0], ladj, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer.inverse(out, None)[0][:, 0], other.inv(expected), rtol=1e-11, atol=1e-11)
