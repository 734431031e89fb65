"""Every family against autograd's Jacobian of the whole map, noise -> z, and its inverse against itself.

κ is the condition number of that Jacobian in float64, with 1 counted among the singular values: points have a
size of their own, so that a uniform scaling too moves rounding about. A bound holds where κ·ε ≤ 1e-2; other
points are counted, and are never most of them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from flowvi.flows import Flow, FlowDistribution

POINTS = 48

sizes = pytest.mark.parametrize(
    ("features", "length"),
    [
        (1, 4),
        (3, 8),
        pytest.param(1, 80, marks=pytest.mark.slow),
        pytest.param(40, 80, marks=pytest.mark.slow),
    ],
)


def jacobians(flow: Flow, context: Tensor | None, noise: Tensor) -> Tensor:
    """∂z/∂noise at each row of `noise`, in float64 whatever the flow's dtype: (points, D, D)."""
    flow = deepcopy(flow).double()
    q = flow(context if context is None else context.double())
    return torch.func.vmap(torch.func.jacrev(lambda row: q.push(row)[0]))(noise.double())


def condition(jacobian: Tensor) -> Tensor:
    values = torch.linalg.svdvals(jacobian)
    return values[:, 0].clamp_min(1) / values[:, -1].clamp_max(1)


def log_normal(noise: Tensor) -> Tensor:
    return torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(-1)


def chain(q: FlowDistribution) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor]], ...]:
    """Both directions of an unbatched distribution's chain, on points (S, D)."""

    def run(direction: Callable[..., tuple[Tensor, Tensor]], z: Tensor) -> tuple[Tensor, Tensor]:
        out, log_det = direction(z[:, None], q.conditioning[None])
        return out[:, 0], log_det[:, 0]

    return lambda z: run(q.chain.forward, z), lambda z: run(q.chain.inverse, z)


def well_conditioned(kappa: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Where a bound may be asked for: at most points of a chain of ordinary length."""
    good = kappa * torch.finfo(dtype).eps <= 1e-2
    assert length > 8 or good.double().mean() >= 0.5
    return good


@sizes
def test_log_q_is_the_change_of_variables(mapping, features: int, length: int, dtype: torch.dtype) -> None:
    flow, context = mapping.trained(features, length, dtype), mapping.given(dtype=dtype)
    noise = torch.randn(POINTS, features, dtype=dtype)
    _, log_q = flow(context).push(noise)
    jacobian = jacobians(flow, context, noise)
    sign, log_det = torch.linalg.slogdet(jacobian)
    assert (sign > 0).all()
    found = log_normal(noise.double()) - log_q.double()  # ln q(z) = ln N(noise) − ln|det|
    error = (found - log_det).abs() / (1 + log_det.abs())
    if dtype == torch.float64:
        good = condition(jacobian) < 1e6
        assert (error[good] <= 1e-8).all()
    else:
        good = condition(jacobian) < 1e3  # κ·ε·K of an error in z moves the determinant itself
        assert (error[good] <= 1e-3).all()
    assert length > 8 or good.double().mean() >= 0.5


@sizes
def test_the_chain_goes_there_and_back(chained, features: int, length: int, dtype: torch.dtype) -> None:
    flow, context = chained.trained(features, length, dtype), chained.given(dtype=dtype)
    q = flow(context)
    forward, inverse = chain(q)
    z0 = torch.randn(POINTS, features, dtype=dtype)
    z, log_det = forward(z0)
    back, log_det_back = inverse(z)
    noise = (z0 - q.base_mean) * (-q.base_log_scale).exp()
    kappa = condition(jacobians(flow, context, noise))
    good = well_conditioned(kappa, length, dtype)
    bound = 100 * length * torch.finfo(dtype).eps * kappa * (1 + z0.norm(dim=-1))
    assert ((back - z0).norm(dim=-1) <= bound)[good].all()
    assert ((log_det_back - log_det).abs() <= bound * (1 + log_det.abs()))[good].all()


@sizes
def test_any_point_has_a_preimage(chained, features: int, length: int, dtype: torch.dtype) -> None:
    """‖f(f⁻¹(y)) − y‖ ≤ 100·K·ε·scale for points that the forward map never produced, near and far.

    A long chain that magnifies also magnifies the rounding of z, the best float there is: its scale is that
    of the image of a rounding error.
    """
    flow, context = chained.trained(features, length, dtype), chained.given(dtype=dtype)
    q = flow(context)
    forward, inverse = chain(q)
    y = torch.randn(POINTS, features, dtype=dtype) * torch.logspace(-1, 3, POINTS, dtype=dtype)[:, None]
    z, log_det = inverse(y)
    again, log_det_forward = forward(z)
    jacobian = jacobians(flow, context, (z - q.base_mean) * (-q.base_log_scale).exp())
    good = well_conditioned(condition(jacobian), length, dtype)
    size = torch.linalg.matrix_norm(jacobian, 2).clamp_min(1) if length > 8 else 1
    scale = (1 + y.norm(dim=-1) + z.norm(dim=-1)) * size
    assert ((again - y).norm(dim=-1) <= 100 * length * torch.finfo(dtype).eps * scale)[good].all()
    assert z.isfinite().all()
    bound = 100 * length * torch.finfo(dtype).eps * condition(jacobian) * (1 + z.norm(dim=-1))
    assert ((log_det - log_det_forward).abs() <= bound * (1 + log_det.abs()))[good].all()


@sizes
def test_log_prob_of_own_samples_is_log_q(mapping, features: int, length: int, dtype: torch.dtype) -> None:
    flow, context = mapping.trained(features, length, dtype), mapping.given(dtype=dtype)
    q = flow(context)
    noise = torch.randn(POINTS, features, dtype=dtype)
    z, log_q = q.push(noise)
    kappa = condition(jacobians(flow, context, noise))
    good = well_conditioned(kappa, length, dtype)
    # an error e in the noise changes ln N(noise) by noise·e
    bound = 100 * max(length, 1) * torch.finfo(dtype).eps * kappa * (1 + noise.norm(dim=-1)) ** 2
    assert ((q.log_prob(z) - log_q).abs() <= bound)[good].all()


def test_the_sign_of_log_q_by_counting(mapping) -> None:
    """One dimension: the share of samples in a narrow interval over its width is the density there."""
    q = mapping.trained(1, 4)(mapping.given())
    z = q.sample((200_000,)).squeeze(-1)
    low, high = z.quantile(0.5), z.quantile(0.52)
    grid = torch.linspace(low, high, 101, dtype=z.dtype)
    density = torch.trapezoid(q.log_prob(grid[:, None]).exp(), grid)
    assert density.item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("through", ["log_prob", "push"])
def test_gradients_by_every_parameter(mapping, through: str) -> None:
    """Against central differences; those of `log_prob` go through the inverse."""
    flow, context = mapping.trained(2, 3), mapping.given(2)
    points = torch.randn(3, *(() if context is None else (2,)), 2, dtype=torch.float64)
    weights = torch.randn(points.shape[:-1], dtype=torch.float64)
    names, values = zip(*((n, p.detach().clone().requires_grad_()) for n, p in flow.named_parameters()), strict=True)

    def loss(*replaced: Tensor) -> Tensor:
        parameters = dict(zip(names, replaced[1:], strict=True))
        q = torch.func.functional_call(flow, parameters, () if context is None else (context,))
        if through == "log_prob":
            return (q.log_prob(replaced[0]) * weights).sum()
        z, log_q = q.push(replaced[0])
        return (log_q * weights).sum() + z.square().sum()

    assert torch.autograd.gradcheck(loss, (points.requires_grad_(), *values), fast_mode=True)


def test_under_torch_func(mapping, dtype: torch.dtype) -> None:
    """vmap over contexts or points, jacrev, jacfwd and hessian agree with the batched calls."""
    flow, context, z = (
        mapping.trained(3, 4, dtype),
        mapping.given(6, dtype=dtype),
        torch.randn(6, 3, dtype=dtype),
    )

    def log_prob(context: Tensor | None, z: Tensor) -> Tensor:
        return flow(context).log_prob(z)

    in_dims = (None if context is None else 0, 0)
    torch.testing.assert_close(torch.func.vmap(log_prob, in_dims)(context, z), log_prob(context, z))
    pushed = torch.func.vmap(lambda c, n: flow(c).push(n), in_dims)(context, z)
    for found, expected in zip(pushed, flow(context).push(z), strict=True):
        torch.testing.assert_close(found, expected)
    first = context if context is None else context[0]
    loose = {"rtol": 1e-3, "atol": 1e-3, "check_dtype": False}  # torch's jacfwd answers in float64
    backward = torch.func.jacrev(log_prob, 1)(first, z[0])
    torch.testing.assert_close(torch.func.jacfwd(log_prob, 1)(first, z[0]), backward, **loose)
    hessian = torch.func.hessian(log_prob, 1)(first, z[0])
    torch.testing.assert_close(hessian, hessian.mT, **loose)
    assert hessian.isfinite().all()
