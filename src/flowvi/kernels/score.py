"""The score ∇ ln q taken along a chain of planar layers, as one kernel or by its definition."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor

from flowvi.kernels.choice import fuses
from flowvi.kernels.reference import PlanarLayers, planar_layers
from flowvi.kernels.roots import LEAK

__all__ = ["planar_push_score"]


@torch.no_grad()
def planar_push_score(
    z: Tensor, slope: Tensor, parameters: Tensor, invertibility: str, h: str = "tanh"
) -> tuple[Tensor, Tensor]:
    """Points (S, batch, D) and the scores there, to those after the chain; no gradients.

    A planar layer has J = I + û·ψᵀ, ψ = h′(a)·w. By Sherman and Morrison J⁻ᵀ·v = v − ψ·ûᵀv/(1 + ûᵀψ), and
    ∇ ln det J = wᵀû·h″(a)/(1 + ûᵀψ)·w.

    Args:
        z: the chain's input.
        slope: ∇ ln q there.
        parameters: (batch or 1, K, 2D + 1).
        invertibility: `centred` or `paper`.
        h: `tanh` or `leaky_relu`.
    """
    parameters = parameters.to(z.dtype)
    if z.device.type != "cpu" or not fuses(z, parameters):
        return _reference(z, slope, parameters, invertibility, h)
    arrays = [each.contiguous().view(-1, len(parameters), z.shape[-1]) for each in (z, slope)]
    out = [torch.empty_like(each) for each in arrays]
    options = [0, int(invertibility == "centred"), int(h == "leaky_relu")]
    import_module("flowvi.kernels.cpu").push_score(*arrays, parameters.contiguous(), *out, options)
    return out[0].view(z.shape), out[1].view(z.shape)


def _reference(z: Tensor, slope: Tensor, parameters: Tensor, invertibility: str, h: str) -> tuple[Tensor, Tensor]:
    layers = planar_layers(parameters, invertibility)
    for k in range(parameters.shape[1]):
        z, slope = _planar_step(z, slope, layers, k, h)
    return z, slope


def _planar_step(z: Tensor, slope: Tensor, layers: PlanarLayers, k: int, h: str) -> tuple[Tensor, Tensor]:
    w, u_hat = layers.w[:, k], layers.u_hat[:, k]
    a = (torch.linalg.vecdot(z, w) + layers.b[:, k]).unsqueeze(-1)
    value, first, second = _activation(a, h)
    slack = layers.log_slack[:, k].exp().unsqueeze(-1)  # 1 + wᵀû
    bend = value.square() if h == "tanh" else 1 - first  # 1 − h′
    det = bend + slack * first  # 1 + wᵀû·h′, of positive terms
    slope = slope - (slack - 1) * second / det * w
    along = torch.linalg.vecdot(slope, u_hat).unsqueeze(-1)
    return z + value * u_hat, slope - first * along / det * w


def _activation(a: Tensor, h: str) -> tuple[Tensor, Tensor, Tensor]:
    """h(a), h′(a), h″(a)."""
    if h == "leaky_relu":
        first = torch.full_like(a, LEAK).masked_fill(a > 0, 1.0)
        return first * a, first, torch.zeros_like(a)
    value = a.tanh()
    first = a.cosh().square().reciprocal()  # 1 − tanh² has lost its digits far out
    return value, first, -2 * value * first
