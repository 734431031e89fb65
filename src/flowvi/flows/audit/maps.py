"""A distribution's bijections at single points: both directions, their Jacobians, their condition, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from flowvi.flows.flow import FlowDistribution, Part
from flowvi.flows.networks import LayerChain

__all__ = ["LARGEST", "LARGEST_LOG_DET", "apply", "condition", "jacobians", "layers", "log_normal", "through"]

# beyond, in float64, no float32 can be asked for; and beyond, along one direction, no float64
LARGEST, LARGEST_LOG_DET = 1e30, 600.0


def apply(part: Part, direction: str, z: Tensor) -> tuple[Tensor, Tensor]:
    """One direction of a part of an unbatched distribution, on points (S, D): image and log-determinant, (S,)."""
    conditioning = None if part.conditioning is None else part.conditioning[None]
    out, log_det = getattr(part.chain, direction)(z[:, None], conditioning)
    return out[:, 0], log_det[:, 0]


def through(parts: tuple[Part, ...], direction: str, z: Tensor) -> tuple[Tensor, Tensor]:
    """One direction of all parts, on points (S, D)."""
    total = z.new_zeros(z.shape[:-1])
    for part in parts if direction == "forward" else reversed(parts):
        z, log_det = apply(part, direction, z)
        total = total + log_det
    return z, total


def jacobians(f: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """∂f/∂point at each of the points (S, D), by autograd: (S, D, D)."""
    found: Tensor = torch.func.vmap(torch.func.jacrev(lambda row: f(row[None])[0]))(points)
    return found.detach()


def condition(jacobian: Tensor) -> Tensor:
    """The condition number, with 1 counted among the singular values; infinite where the Jacobian is not finite.

    Points have a size of their own, so that a uniform scaling too moves rounding about.
    """
    finite = jacobian.isfinite().flatten(-2).all(-1)
    values = torch.linalg.svdvals(torch.where(finite[:, None, None], jacobian, 0.0))
    return torch.where(finite, values[:, 0].clamp_min(1) / values[:, -1].clamp_max(1), torch.inf)


def log_normal(noise: Tensor) -> Tensor:
    """The log density of standard normal noise, (S, D) -> (S,)."""
    log_density: Tensor = torch.distributions.Normal(0.0, 1.0, validate_args=False).log_prob(noise).sum(-1)
    return log_density


def layers(q: FlowDistribution, z0: Tensor) -> tuple[Part, ...]:
    """The parts of an unbatched distribution cut into pieces as small as can be, one after the other the same map.

    What is no chain of layers, or layers that depend on their place in the chain, stay whole, or in pairs.
    """
    return tuple(piece for part in q.parts for piece in _pieces(part, z0))


def _pieces(part: Part, z0: Tensor) -> list[Part]:
    if isinstance(part.chain, LayerChain):
        return [Part(LayerChain([layer]), part.conditioning) for layer in part.chain.layers]
    conditioning = part.conditioning
    if conditioning is None or part.chain.conditioning_dims != 2:
        return [part]
    whole = apply(part, "forward", z0)[0]
    for step in (1, 2):
        pieces = [Part(part.chain, piece) for piece in cast(Any, conditioning).split(step)]
        if torch.allclose(through(tuple(pieces), "forward", z0)[0], whole, rtol=1e-4, atol=1e-4, equal_nan=True):
            return pieces
    return [part]
