"""The score ∇_z ln q(z) at samples of a flow, for path gradients (Roeder et al. 2017, arXiv:1703.09194).

The gradient of ln q(z) by the parameters has two ways to go: through z, and through the parameters inside ln q. The
second has expectation 0, and leaving it out leaves a gradient whose variance vanishes where q is the target. What is
left is ∇_θ zᵀ·score, the score taken as a constant.

The score goes forward with the sample (Vaitl et al. 2022, arXiv:2207.08219): for y = f(z) with Jacobian J,
ln q(y) = ln q(z) − ln|det J(z)|, so that by z both sides give Jᵀ·g_y = g_z − ∇ ln|det J|, and
g_y = J⁻ᵀ (g_z − ∇ ln|det J|). A chain that knows this step has a method `push_score`; for others the score is the
gradient of `log_prob`, by the inverse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from flowvi.flows.flow import FlowDistribution

__all__ = ["along_path", "pushed_score", "score"]


def along_path(q: FlowDistribution, noise: Tensor, z: Tensor, log_q: Tensor) -> Tensor:
    """`log_q`, (S…, batch…), with the gradient along the path alone: by the parameters through z, not by themselves.

    Args:
        q: the distribution that `push` made z and log_q with.
        noise: (S…, batch…, D), what z was made of.
        z: (S…, batch…, D).
        log_q: ln q(z), (S…, batch…), in nats.
    """
    slope = score(q, noise.detach(), z.detach())
    # added where its value is 0, so that no rounding of it is in the value
    return log_q.detach() + ((z - z.detach()) * slope).sum(-1)


def score(q: FlowDistribution, noise: Tensor, z: Tensor) -> Tensor:
    """∇_z ln q(z), (S…, batch…, D), a constant, at the image z of `noise`."""
    pushed = pushed_score(q, noise, -noise)
    if pushed is not None:
        return pushed
    with torch.enable_grad():
        at = z.clone().requires_grad_()
        slope: Tensor = torch.autograd.grad(q.log_prob(at).sum(), at)[0]
    return slope


@torch.no_grad()
def pushed_score(q: FlowDistribution, noise: Tensor, slope: Tensor) -> Tensor | None:
    """The score of `noise`, as it is after base and chains; None where a chain cannot take it along.

    Args:
        q: whose base and chains they are.
        noise: (S…, batch…, D).
        slope: the gradient of the noise's log density, of the same shape; that of N(0, I) is −noise.
    """
    steps: list[Any] = [getattr(part.chain, "push_score", None) for part in q.parts]
    if not all(steps):
        return None
    scale = q.base_log_scale.exp()
    points, slope = q.base_mean + scale * noise, slope / scale
    for (chain, conditioning), step in zip(q.parts, steps, strict=True):
        arranged, given = q.arrange(points, chain, conditioning)
        pushed = step(arranged, slope.reshape(arranged.shape), given)
        points, slope = (each.reshape(noise.shape) for each in pushed)
    return slope
