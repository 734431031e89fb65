"""NICE against plain loops over its own weights, coordinate by coordinate (Dinh et al. 2014)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from flowvi.flows import NICE

each_mixing = pytest.mark.parametrize("mixing", ["permutation", "orthogonal"])


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


def layer_by_loops(z: list[float], layer: nn.Module, context: list[float] | None) -> list[float]:
    """y = Mz, y_B += h(y_A), z = Mᵀy, M a permutation or an orthogonal matrix."""
    d = len(z)
    if hasattr(layer, "permutation"):
        order = layer.permutation.tolist()
        matrix = [[1.0 if j == order[i] else 0.0 for j in range(d)] for i in range(d)]
    else:
        matrix = nearest_orthogonal(layer.rotation).tolist()
    y = [sum(matrix[i][j] * z[j] for j in range(d)) for i in range(d)]
    half = d // 2
    shift = network(layer.h, y[:half], context)
    y = [y[i] + (shift[i - half] if i >= half else 0.0) for i in range(d)]
    return [sum(matrix[i][j] * y[i] for i in range(d)) for j in range(d)]


def nearest_orthogonal(matrix: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(matrix.double())
    return u @ v


def moved(flow: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return flow


@each_mixing
@pytest.mark.parametrize("features", [2, 5])
@pytest.mark.parametrize("context", [0, 3])
def test_the_chain_is_the_loop(mixing: str, features: int, context: int) -> None:
    flow = moved(NICE(features, context, 3, mixing=mixing, hidden=(7, 6)).double())
    chain = flow.links[0].chain
    given = torch.randn(1, context, dtype=torch.float64) if context else None
    for z in torch.randn(3, features, dtype=torch.float64):
        point = z.tolist()
        for layer in chain.layers:
            point = layer_by_loops(point, layer, given[0].tolist() if context else None)
        out, log_det = chain.forward(z[None, None], given)
        assert out.flatten().tolist() == pytest.approx(point, rel=1e-12, abs=1e-13)
        assert log_det.item() == 0
        back, again = chain.inverse(out, given)
        assert back.flatten().tolist() == pytest.approx(z.tolist(), rel=1e-12, abs=1e-12)
        assert again.item() == 0


@each_mixing
def test_the_volume_is_preserved(mixing: str) -> None:
    flow = moved(NICE(7, 0, 6, mixing=mixing, hidden=(16,), init="normal").double())
    for z in torch.randn(8, 7, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(
            lambda point: flow.links[0].chain.forward(point[None, None], None)[0][0, 0], z
        )
        assert jacobian.det().item() == pytest.approx(1, abs=1e-10)
        assert (jacobian - torch.eye(7, dtype=torch.float64)).abs().max() > 0.1  # and yet it is no identity


@each_mixing
def test_mixing_is_saved_and_loaded(mixing: str) -> None:
    one, other = (NICE(6, 0, 4, mixing=mixing, init="xavier") for _ in range(2))
    name = "permutation" if mixing == "permutation" else "rotation"
    assert sum(key.endswith(name) for key in one.state_dict()) == 4
    z = torch.randn(5, 6)
    assert not torch.equal(one().push(z)[0], other().push(z)[0])
    other.load_state_dict(one.state_dict())
    assert torch.equal(one().push(z)[0], other().push(z)[0])


def test_permutations_differ_by_layer_and_are_permutations() -> None:
    layers = NICE(20, 0, 5).links[0].chain.layers
    orders = [layer.permutation.tolist() for layer in layers]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5


@pytest.mark.parametrize("features", [2, 40, 200])
def test_a_rotation_drawn_in_float32_serves_in_float64(features: int) -> None:
    """The frame that the layer uses is orthogonal to float64's rounding after `.double()`; seen in the map."""
    flow = NICE(features, 0, 1, mixing="orthogonal", hidden=(4,)).double()
    layer = flow.links[0].chain.layers[0]
    with torch.no_grad():
        layer.h.layers[-1].bias.normal_()  # h is constant: a shift along the second half of the frame
    frame = nearest_orthogonal(layer.rotation)
    assert (frame - layer.rotation).abs().max() < 1e-6
    z = torch.randn(3, 1, features, dtype=torch.float64)
    moved_by = layer(z, None)[0] - z
    torch.testing.assert_close(moved_by[0], moved_by[1], rtol=0, atol=1e-13)
    # nothing of it along the coordinates that h reads; its length is h's
    assert (moved_by @ frame[: features // 2].mT).abs().max() <= 1e-14 * features**0.5
    size = layer.h.layers[-1].bias.norm()
    torch.testing.assert_close(moved_by.norm(dim=-1), size.expand(3, 1), rtol=1e-14, atol=0)


@each_mixing
def test_deep_chains_come_back(mixing: str, dtype: torch.dtype) -> None:
    flow = NICE(40, 0, 80, mixing=mixing, init="xavier").to(dtype)
    y = torch.randn(32, 1, 40, dtype=dtype) * 3
    z, _ = flow.links[0].chain.inverse(y, None)
    again, _ = flow.links[0].chain.forward(z, None)
    assert ((again - y).norm(dim=-1) <= 100 * 80 * torch.finfo(dtype).eps * (1 + y.norm(dim=-1))).all()


@each_mixing
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_against_finite_differences(mixing: str, direction: str) -> None:
    chain = moved(NICE(3, 2, 2, mixing=mixing, hidden=(3,)).double()).links[0].chain
    z = torch.randn(2, 1, 3, dtype=torch.float64, requires_grad=True)
    context = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *inputs: getattr(chain, direction)(*inputs)[0], (z, context))
