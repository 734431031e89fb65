"""Inverse autoregressive flow against plain loops over its own weights (Kingma et al. 2016), and against zuko."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from flowvi.flows import IAF

each_size = pytest.mark.parametrize("features", [1, 2, 5])
each_context = pytest.mark.parametrize("context", [0, 3])


def network(module: nn.Module, inputs: list[float], context: list[float] | None) -> list[float]:
    """A tanh network from its weights, those outside the mask left out; the context enters the first hidden layer."""
    values = inputs
    for k, layer in enumerate(module.layers):
        values = [math.tanh(value) for value in values] if k else values
        rows = zip(layer.weight.tolist(), layer.mask.tolist(), layer.bias.tolist(), strict=True)
        values = [
            bias + sum(w * v for w, seen, v in zip(weight, mask, values, strict=True) if seen)
            for weight, mask, bias in rows
        ]
        if k == 0 and context is not None:
            rows = module.context.weight.tolist()
            added = [sum(w * c for w, c in zip(row, context, strict=True)) for row in rows]
            values = [value + more for value, more in zip(values, added, strict=True)]
    return values


def logistic(s: float) -> float:
    return 1 / (1 + math.exp(-s))


def layer_by_loops(
    z: list[float], k: int, layer: nn.Module, gate_bias: float, context: list[float] | None
) -> tuple[list[float], float]:
    """[m, s] from the autoregressive network; σ = logistic(s + bias); σ·z + (1 − σ)·m; odd layers in reverse order."""
    d = len(z)
    z = z[::-1] if k % 2 else z
    numbers = network(layer.network, z, context)
    gates = [logistic(s + gate_bias) for s in numbers[d:]]
    out = [gate * value + (1 - gate) * m for gate, value, m in zip(gates, z, numbers[:d], strict=True)]
    return out[::-1] if k % 2 else out, sum(math.log(gate) for gate in gates)


def moved(flow: nn.Module, size: float = 0.5) -> nn.Module:
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += size * torch.randn_like(parameter)
    return flow


@each_size
@each_context
@pytest.mark.parametrize("gate_bias", [2.0, -1.0])
def test_the_chain_is_the_loop(features: int, context: int, gate_bias: float) -> None:
    flow = moved(IAF(features, context, 3, hidden=(7, 6), gate_bias=gate_bias).double())
    chain = flow.links[0].chain
    given = torch.randn(1, context, dtype=torch.float64) if context else None
    for z in torch.randn(3, features, dtype=torch.float64):
        point, total = z.tolist(), 0.0
        for k, layer in enumerate(chain.layers):
            point, one = layer_by_loops(point, k, layer, gate_bias, given[0].tolist() if context else None)
            total += one
        out, log_det = chain.forward(z[None, None], given)
        assert out.flatten().tolist() == pytest.approx(point, rel=1e-12, abs=1e-13)
        assert log_det.item() == pytest.approx(total, rel=1e-12)
        back, again = chain.inverse(out, given)
        assert back.flatten().tolist() == pytest.approx(z.tolist(), rel=1e-10, abs=1e-11)
        assert again.item() == pytest.approx(total, rel=1e-10)


def jacobians(layer: nn.Module, context: Tensor | None, features: int) -> Tensor:
    """|∂(m, s)_i/∂z_j|, the largest over some points, for the layer's own order: (2, D, D)."""
    found = torch.zeros(2 * features, features, dtype=torch.float64)
    for z in torch.randn(8, features, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(lambda point: layer.network(point[None, None], context)[0, 0], z)
        found = torch.maximum(found, jacobian.abs())
    return found.unflatten(0, (2, features))


@pytest.mark.parametrize("features", [2, 3, 12])
@each_context
@pytest.mark.parametrize("hidden", [(64, 64), (12,), (40, 20, 30)])
def test_outputs_depend_on_all_earlier_coordinates_and_on_no_other(
    features: int, context: int, hidden: tuple[int, ...]
) -> None:
    flow = moved(IAF(features, context, 1, hidden=hidden, init="normal").double())
    given = torch.randn(1, context, dtype=torch.float64) if context else None
    for found in jacobians(flow.links[0].chain.layers[0], given, features):
        for i in range(features):
            for j in range(features):
                assert (found[i, j] > 0) == (j < i), (i, j)


@pytest.mark.parametrize("hidden", [(1,), (4, 4), (9, 5)])
@each_context
def test_a_narrow_network_keeps_the_order_and_sees_the_last_coordinates_too(
    hidden: tuple[int, ...], context: int
) -> None:
    features = 20
    flow = moved(IAF(features, context, 1, hidden=hidden, init="normal").double())
    given = torch.randn(1, context, dtype=torch.float64) if context else None
    for found in jacobians(flow.links[0].chain.layers[0], given, features):
        assert (found.triu() == 0).all()
        if hidden != (1,):
            assert (found[:, :-1] > 0).any(0).all()


def test_the_jacobian_of_a_layer_is_triangular_in_its_order() -> None:
    """Lower in even layers, upper in odd ones, with the gates on the diagonal."""
    flow = moved(IAF(6, 0, 4, init="normal").double())
    for k, layer in enumerate(flow.links[0].chain.layers):
        for z in torch.randn(3, 6, dtype=torch.float64):
            jacobian = torch.autograd.functional.jacobian(
                lambda point, at=layer: at(point[None, None], None)[0][0, 0], z
            )
            triangle, other = jacobian.tril(-1), jacobian.triu(1)
            if k % 2:
                triangle, other = other, triangle
            assert (other == 0).all()
            assert (triangle != 0).sum() == 15
            assert (jacobian.diagonal() > 0).all()
            assert (jacobian.diagonal() < 1).all()
            _, log_det = layer(z[None, None], None)
            assert log_det.item() == pytest.approx(jacobian.diagonal().log().sum().item(), rel=1e-12)
            assert log_det.item() == pytest.approx(jacobian.slogdet().logabsdet.item(), rel=1e-11)


@each_size
@each_context
def test_every_output_sees_the_context(features: int, context: int) -> None:
    """The first coordinate's too, which sees no other; without a context it has its biases."""
    flow = moved(IAF(features, context, 1, hidden=(6, 6)).double())
    layer = flow.links[0].chain.layers[0]
    z = torch.randn(1, 1, features, dtype=torch.float64)
    if context:
        given = torch.randn(1, context, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda c: layer.network(z, c)[0, 0], given)
        assert (jacobian[:, 0].abs() > 0).all()
    else:
        assert (layer.network(z, None)[0, 0].abs() > 0).all()


@each_context
def test_the_inverse_is_substitution(context: int) -> None:
    """z_1, then z_2 from it, and so on, each from the network of the loops; for points that were never images."""
    features, bias = 4, 0.5
    flow = moved(IAF(features, context, 2, hidden=(5,), gate_bias=bias).double())
    layers = flow.links[0].chain.layers
    given = torch.randn(1, context, dtype=torch.float64) if context else None
    names = given[0].tolist() if context else None
    for y in torch.randn(4, features, dtype=torch.float64) * 3:
        point, total = y.tolist(), 0.0
        for k in (1, 0):
            image = point[::-1] if k % 2 else point
            found = [0.0] * features
            for i in range(features):
                numbers = network(layers[k].network, found, names)
                gate = logistic(numbers[features + i] + bias)
                found[i] = (image[i] - (1 - gate) * numbers[i]) / gate
                total += math.log(gate)
            point = found[::-1] if k % 2 else found
        back, log_det = flow.links[0].chain.inverse(y[None, None], given)
        assert back.flatten().tolist() == pytest.approx(point, rel=1e-10, abs=1e-11)
        assert log_det.item() == pytest.approx(total, rel=1e-10)


def test_closed_and_open_gates_stay_finite(dtype: torch.dtype) -> None:
    for bias in (-80.0, -20.0, 20.0, 200.0):
        flow = moved(IAF(3, 0, 1, hidden=(8,), gate_bias=bias).to(dtype))
        chain = flow.links[0].chain
        z = torch.randn(5, 1, 3, dtype=dtype, requires_grad=True)
        out, log_det = chain.forward(z, None)
        assert out.isfinite().all()
        assert log_det.isfinite().all()
        torch.testing.assert_close(log_det, torch.full_like(log_det, min(3 * bias, 0)), rtol=0.5, atol=1e-6)
        for grad in torch.autograd.grad(out.sum() + log_det.sum(), (z, *chain.parameters())):
            assert grad.isfinite().all()
        if bias > 0:
            torch.testing.assert_close(chain.inverse(out, None)[0], z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_against_finite_differences(direction: str) -> None:
    chain = moved(IAF(3, 2, 2, hidden=(3,)).double()).links[0].chain
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


def test_a_layer_is_zukos_autoregressive_transform_of_the_same_numbers(transforms: ModuleType) -> None:
    flow = moved(IAF(5, 0, 2, hidden=(7,)).double())
    z = torch.randn(20, 5, dtype=torch.float64)
    for k, layer in enumerate(flow.links[0].chain.layers):

        def affine(points: Tensor, at: nn.Module = layer) -> object:
            m, s = at.network(points, None).chunk(2, -1)
            gate = torch.sigmoid(s + 2)
            # zuko bounds log-scales by x/(1 + |x|/bend)
            bend, log_scale = -math.log(1e-3), gate.log()
            raw = log_scale / (1 - log_scale.abs() / bend)
            univariate = transforms.MonotonicAffineTransform((1 - gate) * m, raw, slope=1e-3)
            return transforms.DependentTransform(univariate, 1)

        other = transforms.AutoregressiveTransform(affine, passes=5)
        expected, ladj = other.call_and_ladj(z.flip(-1) if k else z)
        out, log_det = layer(z[:, None], None)
        torch.testing.assert_close(out[:, 0], expected.flip(-1) if k else expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(log_det[:, 0], ladj, rtol=1e-12, atol=1e-12)
        back, _ = layer.inverse(out, None)
        truth = other.inv(expected)
        torch.testing.assert_close(back[:, 0], truth.flip(-1) if k else truth, rtol=1e-9, atol=1e-10)
