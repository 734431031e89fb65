"""Path gradients: the same values, the score of the density, the same gradient in expectation, none at the optimum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import flowvi
from flowvi.flows import Flow, Planar, build
from flowvi.flows.path import score

from .conftest import Case


def drawn(flow: Flow, context: Tensor | None, shape: tuple[int, ...], *, path: bool) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return flow(context).rsample_and_log_prob(shape, path=path)


def test_values_are_the_same_and_the_path_goes_through_the_samples_alone(case: Case) -> None:
    flow, context = case.moved(4, 3), case.given(2)
    (z, log_q), (again, along) = (drawn(flow, context, (3,), path=path) for path in (False, True))
    assert torch.equal(z, again) and torch.equal(log_q, along)
    slope = torch.autograd.grad(along.sum(), again, retain_graph=True)[0]
    at = again.detach().requires_grad_()
    (expected,) = torch.autograd.grad(flow(context).log_prob(at).sum(), at)
    torch.testing.assert_close(slope, expected, rtol=1e-7, atol=1e-7 * float(expected.abs().max()))
    through = torch.autograd.grad(again, list(flow.parameters()), slope, retain_graph=True, allow_unused=True)
    whole = torch.autograd.grad(along.sum(), list(flow.parameters()), allow_unused=True)
    for one, other in zip(through, whole, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("h", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("invertibility", ["paper", "centred"])
@pytest.mark.parametrize(("length", "size"), [(1, 0.3), (20, 0.3), (4, 3.0), (2, 30.0)])
def test_the_planar_score_going_forward(h: str, invertibility: str, length: int, size: float) -> None:
    torch.manual_seed(length)
    flow = build("planar", features=5, length=length, h=h, invertibility=invertibility).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(size * torch.randn_like(parameter))
        flow.base.location.div_(max(size, 1.0))
    noise = torch.randn(64, 5, dtype=torch.float64)
    q = flow()
    start = noise.clone().requires_grad_()
    z, log_q = q.push(start)
    (slope,) = torch.autograd.grad(log_q.sum(), start, retain_graph=True)
    rows = [torch.autograd.grad(each.sum(), start, retain_graph=True)[0] for each in z.unbind(-1)]
    jacobian = torch.stack(rows, -2)  # by the noise
    found = score(q, noise, z.detach())
    back = torch.einsum("nij,ni->nj", jacobian, found)  # of ln q at z, by the noise
    scale = slope.norm(dim=-1) + jacobian.norm(dim=(-2, -1)) * found.norm(dim=-1)
    assert bool(((back - slope).norm(dim=-1) <= 1e-12 * length * scale).all())
    assert found.isfinite().all()


def test_where_w_is_zero_the_score_does_not_change() -> None:
    flow = Planar(features=3, length=2).double()
    with torch.no_grad():
        for parameter in flow.links.parameters():
            parameter.zero_()
    noise = torch.randn(5, 3, dtype=torch.float64)
    q = flow()
    assert torch.equal(score(q, noise, q.push(noise)[0]), -noise)


@pytest.mark.parametrize("kind", ["planar", "radial"])
def test_the_gradient_has_the_same_expectation(kind: str) -> None:
    torch.manual_seed(0)
    flow = build(kind, features=2, length=3).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    differences = []
    for _ in range(300):
        plain, path = (grads(flow, flow().rsample_and_log_prob((50,), path=path)[1].mean()) for path in (False, True))
        differences.append(plain - path)
    found = torch.stack(differences)
    error = found.std(0) / len(found) ** 0.5
    assert (found.mean(0).abs() < 4.5 * error + 1e-12).all()
    assert (error > 1e-4).any()  # they are not the same


def grads(flow: Flow, value: Tensor) -> Tensor:
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(flow.parameters()))])


@pytest.mark.parametrize("kind", ["gaussian", "planar", "full_rank", "realnvp"])
def test_at_the_optimum_there_is_no_gradient_and_so_no_variance(kind: str) -> None:
    torch.manual_seed(0)
    length = 0 if kind in ("gaussian", "full_rank") else 3
    flow, target = (build(kind, features=3, length=length).double() for _ in range(2))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    target.load_state_dict(flow.state_dict())
    target.requires_grad_(False)
    sizes = {}
    for path in (False, True):
        z, log_q = drawn(flow, None, (20,), path=path)
        sizes[path] = float(grads(flow, (log_q - target().log_prob(z)).mean()).norm())
    assert sizes[True] < 1e-9 < 0.1 < sizes[False]


def test_behind_a_constraint() -> None:
    support = flowvi.supports.positive(2)
    flow = flowvi.supports.Supported(Planar(features=2, length=3), support).double()
    target = flowvi.supports.Supported(Planar(features=2, length=3), support).double()
    target.load_state_dict(flow.state_dict())
    target.requires_grad_(False)
    torch.manual_seed(1)
    y, log_q = flow().rsample_and_log_prob((10,))
    torch.manual_seed(1)
    again, along = flow().rsample_and_log_prob((10,), path=True)
    assert torch.equal(y, again) and torch.equal(log_q, along)
    loss = (along - target().log_prob(again)).mean()
    assert all(float(each.abs().max()) < 1e-9 for each in torch.autograd.grad(loss, list(flow.parameters())))
