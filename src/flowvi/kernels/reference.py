"""The definition of each chain, in plain torch. A fused kernel is right when it equals these functions.

A chain of K layers takes its parameters in one tensor, `(batch or 1, K, P)`, exactly as a linear head emits
it, and points `z` of shape `(S, batch, D)`; parameters are broadcast over S without copying.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from flowvi.kernels.roots import planar_root

__all__ = ["planar_forward", "planar_inverse", "planar_layers"]

_LOG_2 = math.log(2)
_CENTRE = math.log(math.e - 1)  # softplus(_CENTRE) = 1, hence m(0) = 0


@dataclass(frozen=True)
class PlanarLayers:
    """K planar layers, ready to apply: `w`, `u_hat` (batch, K, D); `b`, `log_slack` = ln(1 + wᵀû) (batch, K)."""

    w: Tensor
    u_hat: Tensor
    b: Tensor
    log_slack: Tensor
    moves: Tensor  # (batch, K), False where w = 0 and the layer is a translation


def planar_forward(z: Tensor, parameters: Tensor, invertibility: str) -> tuple[Tensor, Tensor]:
    """z_k = z_{k−1} + û_k·tanh(w_kᵀz_{k−1} + b_k) for k = 1…K (Rezende & Mohamed 2015, Eq. 10).

    Args:
        z: (S, batch, D).
        parameters: (batch or 1, K, 2D + 1), each layer's w, u, b in this order.
        invertibility: `paper` or `centred`, see `planar_layers`.

    Returns:
        z_K, (S, batch, D), and the chain's ln|det ∂z_K/∂z|, (S, batch), in nats.
    """
    layers = planar_layers(parameters, invertibility)
    activations = []
    # unbind, not indexing: one node in the graph for all K layers, rather than K zero-filled gradients
    for w, u_hat, b in zip(layers.w.unbind(1), layers.u_hat.unbind(1), layers.b.unbind(1), strict=True):
        a = torch.linalg.vecdot(z, w) + b
        z = torch.addcmul(z, u_hat, a.tanh().unsqueeze(-1))
        activations.append(a)
    return z, _planar_log_det(activations, layers)


def planar_inverse(z: Tensor, parameters: Tensor, invertibility: str) -> tuple[Tensor, Tensor]:
    """The exact inverse of `planar_forward`, layer by layer from the last, and the forward map's log-determinant.

    A layer moves z along û only, so that α = wᵀz solves the scalar equation α + wᵀû·tanh(α + b) = wᵀz_out,
    monotone because wᵀû > −1; then z = z_out − û·tanh(α + b). The root is found in float64.
    """
    layers = planar_layers(parameters, invertibility)
    activations = []
    per_layer = (layers.w, layers.u_hat, layers.b, layers.log_slack)
    for w, u_hat, b, log_slack in reversed(list(zip(*(p.unbind(1) for p in per_layer), strict=True))):
        # where w = 0, a = b: the root of a + 0·tanh(a) = b
        a = planar_root(torch.linalg.vecdot(z, w).double() + b.double(), log_slack).to(z.dtype)
        z = torch.addcmul(z, u_hat, a.tanh().unsqueeze(-1), value=-1)
        activations.append(a)
    return z, _planar_log_det(activations[::-1], layers)


def planar_layers(parameters: Tensor, invertibility: str) -> PlanarLayers:
    """Split the parameters and constrain u so that wᵀû > −1 (Rezende & Mohamed 2015, Appendix A.1).

    û = u + (m(x) − x)·w/‖w‖² with x = wᵀu, and `paper`: m(x) = −1 + softplus(x); `centred`: m(x) = −1 +
    softplus(x + ln(e − 1)), so that m(0) = 0 and ‖û‖ ≤ ‖u‖. w is normalised before anything is divided by its
    length; a w whose entries are all below the smallest normal number counts as zero, and then û = u.
    """
    features = parameters.shape[-1] // 2
    w, u, b = parameters.split([features, features, 1], dim=-1)
    scale = w.detach().abs().amax(-1, keepdim=True)
    moves = scale >= torch.finfo(w.dtype).tiny
    scaled = w / torch.where(moves, scale, 1.0)
    length = torch.where(moves, scaled.square().sum(-1, keepdim=True), 1.0).sqrt()
    direction = scaled / length
    norm = length * torch.where(moves, scale, 1.0)
    x = norm * torch.linalg.vecdot(direction, u).unsqueeze(-1)
    if invertibility == "paper":
        gap = softplus(-x, threshold=40) - 1  # m(x) − x, without the cancellation at large x
        log_slack = _log_softplus(x)
    else:
        gap = _centred_gap(x)
        log_slack = _log_softplus(x + _CENTRE)
    u_hat = u + torch.where(moves, gap / norm, 0.0) * direction
    moves = moves.squeeze(-1)
    log_slack = torch.where(moves, log_slack.squeeze(-1), 0.0)
    return PlanarLayers(w, u_hat, b.squeeze(-1), log_slack, moves)


def _centred_gap(x: Tensor) -> Tensor:
    """m(x) − x for the centred m, to full relative accuracy also at x → 0, where it is divided by ‖w‖ → 0.

    −1 + softplus(x + ln(e − 1)) = ln((1 + (e − 1)eˣ)/e) = log1p((1 − 1/e)·expm1(x)).
    """
    near = x.abs() < 1
    inside = torch.where(near, x, 0.0)
    close = torch.log1p((1 - 1 / math.e) * torch.expm1(inside)) - inside
    return torch.where(near, close, softplus(-x - _CENTRE, threshold=40) + _CENTRE - 1)


def _log_softplus(x: Tensor) -> Tensor:
    """ln softplus(x), which is x − eˣ/2 + O(e²ˣ) where softplus itself would underflow."""
    low = x < -20
    left = torch.where(low, x, -20.0)
    right = torch.where(low, 0.0, x)
    return torch.where(low, left - left.exp() / 2, softplus(right, threshold=40).log())


def _planar_log_det(activations: list[Tensor], layers: PlanarLayers) -> Tensor:
    """Σ_k ln(tanh²(a_k) + sech²(a_k)·(1 + w_kᵀû_k)), (S, batch): positive terms only, so nothing cancels."""
    a = torch.stack(activations, -1)
    size = a.abs()
    away = size >= torch.finfo(a.dtype).tiny
    log_tanh = torch.where(away, size, 1.0).tanh().log()
    log_tanh = torch.where(away, log_tanh, -torch.inf)
    log_sech2 = 2 * (_LOG_2 - size - softplus(-2 * size, threshold=40))
    log_det = torch.logaddexp(2 * log_tanh, log_sech2 + layers.log_slack)
    return torch.where(layers.moves, log_det, 0.0).sum(-1)
