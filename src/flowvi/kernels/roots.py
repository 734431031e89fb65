"""The scalar roots behind the planar inverse; tanh's has gradients by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["LEAK", "leaky_root", "planar_root"]

LEAK = 0.01  # the leaky ReLU's slope below 0
_MOST_STEPS = 100


def planar_root(target: Tensor, log_slack: Tensor) -> Tensor:
    """The a that solves `a + c·tanh(a) = target`, c = wᵀû > −1, given as `log_slack` = ln(1 + c).

    In float64 whatever the inputs' dtype, to the last few bits of the residual, differentiable in both
    arguments, once or more often, and under `torch.func`.

    Args:
        target: any shape; wᵀz_out + b of the planar layer z_out = z + û·tanh(wᵀz + b).
        log_slack: broadcasts with `target`.

    Returns:
        a = wᵀz + b, float64, of the broadcast shape.
    """
    target, log_slack = torch.broadcast_tensors(target.double(), log_slack.double())
    return _apply(target, log_slack)


def leaky_root(target: Tensor, log_slack: Tensor) -> Tensor:
    """The a that solves `a + c·h(a) = target`, h the leaky ReLU: target/(1 + c) above 0, target/(1 + LEAK·c) below."""
    above = target >= 0
    # where a branch is not taken its infinite slope would make the gradient NaN
    return torch.where(
        above,
        target * (-torch.where(above, log_slack, 0.0)).exp(),
        target / (1 + LEAK * torch.expm1(torch.where(above, 0.0, log_slack))),
    )


def _solve(target: Tensor, log_slack: Tensor) -> Tensor:
    """Newton's method from the side on which it cannot overshoot.

    With s = 1 + c the equation is g(a) = (a − tanh a) + s·tanh a = r. g is odd, so take r ≥ 0 and a ≥ 0;
    there g'' = −2c·tanh·sech². For c < 0, g is convex and Newton descends to the root from any upper bound;
    for c > 0, g is concave and it climbs from any lower bound. The bounds, from tanh a ≤ min(a, 1):
    g ≤ s·a and g ≤ a + c for c > 0, both ≥ for c < 0, so r/s and r − c bracket from the same side. For c → −1
    and r → 0 the root is nearly triple (a ≈ (3r)^⅓) and both bounds are poor; from the continued fraction
    tanh a ≤ a(15 + a²)/(15 + 6a²), g ≥ a³/(3 + 1.2a²), hence a ≤ (r(3 + 1.2A²))^⅓ for any upper bound A.
    """
    slack = log_slack.exp()
    c = torch.expm1(log_slack)
    r = target.abs()
    linear, saturated = r / slack, r - c
    above = torch.minimum(linear, saturated)
    above = torch.minimum(above, (r * (3 + 1.2 * saturated.square())).pow(1 / 3))
    a = torch.where(c < 0, above, torch.maximum(linear, saturated))
    a = torch.where(r == 0, 0.0, a)  # a root whatever s, where r/s may be 0/0
    for _ in range(_MOST_STEPS):
        h = a.tanh()
        residual = (a - h) + slack * h - r
        # more than the rounding of the residual itself; a root that is infinite or NaN is done
        moving = residual.abs() > 4e-16 * (a + slack * h + r)
        if not moving.any():
            break
        slope = h * h + slack * (1 - h * h)
        # what is done stays, so that no root depends on the others in the call
        a = torch.where(moving, (a - residual / slope).clamp_min(0), a)
    return torch.copysign(a, target)


class _PlanarRoot(torch.autograd.Function):
    """da/dr = 1/g'(a) and da/d ln s = −s·tanh(a)/g'(a), with g'(a) = tanh² + s·sech²."""

    @staticmethod
    def forward(target: Tensor, log_slack: Tensor) -> Tensor:
        return _solve(target, log_slack)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output, inputs[1])
        ctx.save_for_forward(output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, log_slack = ctx.saved_tensors
        h, slack = a.tanh(), log_slack.exp()
        grad_target = grad / (h * h + slack * (1 - h * h))
        return grad_target, -grad_target * slack * h

    @staticmethod
    def jvp(ctx: Any, target: Tensor, log_slack: Tensor) -> Tensor:
        a, at = ctx.saved_tensors
        h, slack = a.tanh(), at.exp()
        tangent: Tensor = (target - slack * h * log_slack) / (h * h + slack * (1 - h * h))
        return tangent

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], *inputs: Tensor) -> tuple[Tensor, int]:
        batched = [
            tensor.unsqueeze(0) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(inputs, in_dims, strict=True)
        ]
        return _apply(*torch.broadcast_tensors(*batched)), 0


# the class is annotated, its inherited `apply` is not
_apply = cast(Callable[[Tensor, Tensor], Tensor], _PlanarRoot.apply)
