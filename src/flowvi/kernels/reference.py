"""The definition of each chain, in plain torch. A fused kernel is right when it equals these functions.

A chain of K layers takes its parameters in one tensor, `(batch or 1, K, P)`, exactly as a linear head emits
it, and points `z` of shape `(S, batch, D)`; parameters are broadcast over S without copying.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, softplus

from flowvi.kernels.roots import LEAK, leaky_root, planar_root

__all__ = [
    "PlanarLayers",
    "householder_forward",
    "householder_inverse",
    "log_slope",
    "planar_forward",
    "planar_inverse",
    "planar_layers",
    "radial_forward",
    "radial_inverse",
    "unit",
]

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


def planar_forward(z: Tensor, parameters: Tensor, invertibility: str, h: str = "tanh") -> tuple[Tensor, Tensor]:
    """z_k = z_{k−1} + û_k·h(w_kᵀz_{k−1} + b_k) for k = 1…K (Rezende & Mohamed 2015, Eq. 10).

    Args:
        z: (S, batch, D).
        parameters: (batch or 1, K, 2D + 1), each layer's w, u, b in this order.
        invertibility: `paper` or `centred`, see `planar_layers`.
        h: `tanh` or `leaky_relu`.

    Returns:
        z_K, (S, batch, D), and the chain's ln|det ∂z_K/∂z|, (S, batch), in nats.
    """
    layers = planar_layers(parameters, invertibility)
    activations = []
    # unbind, not indexing: one node in the graph for all K layers, rather than K zero-filled gradients
    for w, u_hat, b in zip(layers.w.unbind(1), layers.u_hat.unbind(1), layers.b.unbind(1), strict=True):
        a = torch.linalg.vecdot(z, w) + b
        z = torch.addcmul(z, u_hat, _activate(a, h).unsqueeze(-1))
        activations.append(a)
    return z, _planar_log_det(activations, layers, h)


def planar_inverse(z: Tensor, parameters: Tensor, invertibility: str, h: str = "tanh") -> tuple[Tensor, Tensor]:
    """The exact inverse of `planar_forward`, layer by layer from the last, and the forward map's log-determinant.

    A layer moves z along û only, so that α = wᵀz solves the scalar equation α + wᵀû·h(α + b) = wᵀz_out,
    monotone because wᵀû > −1; then z = z_out − û·h(α + b). The root is found in float64.
    """
    layers = planar_layers(parameters, invertibility)
    root = planar_root if h == "tanh" else leaky_root
    activations = []
    per_layer = (layers.w, layers.u_hat, layers.b, layers.log_slack)
    for w, u_hat, b, log_slack in reversed(list(zip(*(p.unbind(1) for p in per_layer), strict=True))):
        # where w = 0, a = b: the root of a + 0·h(a) = b
        a = root(torch.linalg.vecdot(z, w).double() + b.double(), log_slack.double()).to(z.dtype)
        z = torch.addcmul(z, u_hat, _activate(a, h).unsqueeze(-1), value=-1)
        activations.append(a)
    return z, _planar_log_det(activations[::-1], layers, h)


def _planar_log_det(activations: list[Tensor], layers: PlanarLayers, h: str) -> Tensor:
    log_det = log_slope(torch.stack(activations, -1), layers.log_slack, h)
    return torch.where(layers.moves, log_det, 0.0).sum(-1)


def _activate(a: Tensor, h: str) -> Tensor:
    return a.tanh() if h == "tanh" else leaky_relu(a, LEAK)


def planar_layers(parameters: Tensor, invertibility: str) -> PlanarLayers:
    """Split the parameters and constrain u so that wᵀû > −1 (Rezende & Mohamed 2015, Appendix A.1).

    û = u + (m(x) − x)·w/‖w‖² with x = wᵀu, and `paper`: m(x) = −1 + softplus(x); `centred`: m(x) = −1 +
    softplus(x + ln(e − 1)), so that m(0) = 0 and ‖û‖ ≤ ‖u‖. w is normalised before anything is divided by its
    length; a w whose entries are all below the smallest normal number counts as zero, and then û = u.
    """
    features = parameters.shape[-1] // 2
    w, u, b = parameters.split([features, features, 1], dim=-1)
    direction, norm, moves = unit(w)
    x = norm * torch.linalg.vecdot(direction, u).unsqueeze(-1)
    if invertibility == "paper":
        gap = softplus(-x, threshold=40) - 1  # m(x) − x, without the cancellation at large x
        log_slack = _log_softplus(x)
    else:
        gap = _centred_gap(x)
        log_slack = _log_softplus(x + _CENTRE)
    u_hat = u + torch.where(moves, gap / norm, 0.0) * direction
    log_slack = torch.where(moves, log_slack, 0.0)  # no w, no slope: a translation
    return PlanarLayers(w, u_hat, b.squeeze(-1), log_slack.squeeze(-1), moves.squeeze(-1))


def unit(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """w/‖w‖, ‖w‖ and whether there is a w at all, along the last dimension, which is kept.

    Scaled first, so that no square leaves the range of the dtype; where there is no w, the direction is w itself
    and the length 1.
    """
    scale = w.detach().abs().amax(-1, keepdim=True)
    moves = scale >= torch.finfo(w.dtype).tiny
    scaled = w / torch.where(moves, scale, 1.0)
    length = torch.where(moves, scaled.square().sum(-1, keepdim=True), 1.0).sqrt()
    return scaled / length, length * torch.where(moves, scale, 1.0), moves


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


def log_slope(a: Tensor, log_slack: Tensor, h: str = "tanh") -> Tensor:
    """ln(1 + c·h′(a)), c > −1 given as `log_slack` = ln(1 + c): positive terms only, so that nothing cancels.

    For tanh, 1 + c·sech² = tanh² + (1 + c)·sech²; for the leaky ReLU, 1 + c above 0 and 1 + LEAK·c below.
    """
    if h == "leaky_relu":
        return torch.where(a >= 0, log_slack, torch.log1p(LEAK * torch.expm1(log_slack)))
    size = a.abs()
    away = size >= torch.finfo(a.dtype).tiny
    log_tanh = torch.where(away, size, 1.0).tanh().log()
    log_tanh = torch.where(away, log_tanh, -torch.inf)
    log_sech2 = 2 * (_LOG_2 - size - softplus(-2 * size, threshold=40))
    return torch.logaddexp(2 * log_tanh, log_sech2 + log_slack)


def radial_forward(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """z_k = z_{k−1} + β̂_k·(z_{k−1} − z_ref)/(α_k + r), r = ‖z_{k−1} − z_ref‖ (Rezende & Mohamed 2015, Eq. 14).

    Args:
        z: (S, batch, D).
        parameters: (batch or 1, K, D + 2), each layer's z_ref, a, β: α = softplus(a), β̂ = softplus(β) − α.

    Returns:
        z_K, (S, batch, D), and the chain's ln|det ∂z_K/∂z|, (S, batch), in nats.
    """
    log_det: Tensor | float = 0.0
    for reference, alpha, s in zip(*_radial_layers(parameters), strict=True):
        offset = z - reference
        r = _norm(offset)
        log_det = log_det + _radial_log_det(r, alpha, s, z.shape[-1])
        change = (s - alpha) / (alpha + r)
        # near −1 the sum would cancel
        z = torch.where(change > -0.5, z + change * offset, reference + (r + s) / (alpha + r) * offset)
    return z, _summed(log_det, z)


def radial_inverse(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The exact inverse of `radial_forward`, layer by layer from the last, and the forward map's log-determinant.

    A layer keeps the direction from z_ref and sends r to R = r(r + s)/(α + r): r² + (s − R)r − αR = 0, whose
    positive root is computed without a cancellation; then z − z_ref = (z_out − z_ref)·(α + r)/(r + s).
    """
    log_det: Tensor | float = 0.0
    for reference, alpha, s in reversed(list(zip(*_radial_layers(parameters), strict=True))):
        offset = z - reference
        size = _norm(offset)
        half, product = (size - s) / 2, alpha * size
        root = (half.square() + product).sqrt()
        r = torch.where(half > 0, half + root, product / torch.where(half > 0, 1.0, root - half))
        log_det = log_det + _radial_log_det(r, alpha, s, z.shape[-1])
        change = (alpha - s) / (r + s)
        z = torch.where(change > -0.5, z + change * offset, reference + (alpha + r) / (r + s) * offset)
    return z, _summed(log_det, z)


def _radial_layers(parameters: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    """z_ref (batch, D), α and s (batch, 1) of each layer.

    α and s below the cube root of the smallest normal number (2e-13 in float32) count as that: gradients hold s/α².
    """
    reference, a, beta = parameters.split([parameters.shape[-1] - 2, 1, 1], dim=-1)
    least = torch.finfo(parameters.dtype).tiny ** (1 / 3)
    alpha, s = (softplus(raw, threshold=40).clamp_min(least) for raw in (a, beta))
    return reference.unbind(1), alpha.unbind(1), s.unbind(1)


def _radial_log_det(r: Tensor, alpha: Tensor, s: Tensor, features: int) -> Tensor:
    """(D − 1)·ln((r + s)/(α + r)) + ln((r² + 2αr + αs)/(α + r)²), (S, batch, 1).

    With q = r/(α + r), the two ratios are q + s/(α + r) and q(2 − q) + (1 − q)·s/(α + r): positive terms; where
    they are near 1, log1p of what they add to it, so that the identity has exactly 0.
    """
    q, rest, ratio = r / (alpha + r), alpha / (alpha + r), s / (alpha + r)
    change = (s - alpha) / (alpha + r)
    across = _log_ratio(change, q + ratio)
    along = _log_ratio(change * rest, q * (2 - q) + rest * ratio)
    return (features - 1) * across + along


def _log_ratio(change: Tensor, ratio: Tensor) -> Tensor:
    """ln(1 + change), where `ratio` = 1 + change was computed from positive terms."""
    near = change > -0.5
    return torch.where(near, torch.log1p(torch.where(near, change, 0.0)), torch.where(near, 1.0, ratio).log())


def _norm(offset: Tensor) -> Tensor:
    """‖offset‖, (…, 1), with a gradient of 0 where it is 0."""
    away = offset.detach().square().sum(-1, keepdim=True) > 0
    # its gradient is offset/‖offset‖, with nothing divided by a tiny length alone
    size = torch.linalg.vector_norm(torch.where(away, offset, 1.0), dim=-1, keepdim=True)
    return torch.where(away, size, 0.0)


def _summed(log_det: Tensor | float, z: Tensor) -> Tensor:
    return log_det.squeeze(-1) if isinstance(log_det, Tensor) else z.new_zeros(z.shape[:-1])


def householder_forward(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """z − 2(v̂ᵀz)v̂ for each reflection in turn (Tomczak & Welling 2016); a v of 0 reflects nothing.

    Args:
        z: (S, batch, D).
        parameters: (batch or 1, K, reflections·D), each layer's vectors v.

    Returns:
        The image, (S, batch, D), and the log-determinant, (S, batch), which is 0.
    """
    return _reflect(z, _reflections(z, parameters)), z.new_zeros(z.shape[:-1])


def householder_inverse(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The reflections in reverse, and the log-determinant, 0."""
    return _reflect(z, _reflections(z, parameters)[::-1]), z.new_zeros(z.shape[:-1])


def _reflections(z: Tensor, parameters: Tensor) -> tuple[Tensor, ...]:
    """The directions v̂, (batch, D) each, in order."""
    vectors = parameters.unflatten(-1, (-1, z.shape[-1])).flatten(1, 2)
    direction, _, moves = unit(vectors)
    return torch.where(moves, direction, 0.0).unbind(1)


def _reflect(z: Tensor, directions: tuple[Tensor, ...]) -> Tensor:
    for v in directions:
        z = torch.addcmul(z, v, torch.linalg.vecdot(z, v).unsqueeze(-1), value=-2)
    return z
