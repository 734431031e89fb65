"""What of a planar layer depends on its parameters alone; see `flowvi.kernels.cuda.planar` for the table."""

from __future__ import annotations

import math

import triton
import triton.language as tl

from flowvi.kernels.cuda.scalars import expm1, log1p

__all__ = ["WIDTH", "constrain", "log_slack_of", "row_of", "slack_of", "unconstrain"]

INVERSE_NORM, PRODUCT, GAMMA, CHANGE, SLACK, RATE = (tl.constexpr(column) for column in range(6))
WIDTH = tl.constexpr(6)
_E_1 = tl.constexpr(math.e - 1)
_SHARE = tl.constexpr(1 - 1 / math.e)
_CENTRE = tl.constexpr(math.log(math.e - 1))
_AT_ONCE = tl.constexpr(32)  # layers, one to a thread


@triton.jit
def row_of(table_at, k):
    """The entries for layer k."""
    at = table_at + k * WIDTH
    return (
        tl.load(at + INVERSE_NORM),
        tl.load(at + PRODUCT),
        tl.load(at + GAMMA),
        tl.load(at + CHANGE),
        tl.load(at + SLACK),
        tl.load(at + RATE),
    )


@triton.jit
def constrain(
    layers_at, table_at, first, last, features, CENTRED: tl.constexpr, LEAST: tl.constexpr, BLOCK_D: tl.constexpr
):
    """The table of the layers from `first` to before `last`: the products layer by layer, the rest side by side."""
    for k in range(first, last):
        _products(layers_at + k * (2 * features + 1), table_at + k * WIDTH, features, LEAST, BLOCK_D)
    # what one of the program's threads stored, others read
    tl.debug_barrier()
    for start in range(first, last, _AT_ONCE):
        layers = start + tl.arange(0, _AT_ONCE)
        _entries(table_at + layers * WIDTH, layers < last, CENTRED)
    tl.debug_barrier()


@triton.jit
def _products(layer_at, entry_at, features, LEAST: tl.constexpr, BLOCK_D: tl.constexpr):
    """‖w‖, 0 where there is no w, in the place of its inverse; and x. Scaled first, lest a square leave the range."""
    i = tl.arange(0, BLOCK_D)
    w = tl.load(layer_at + i, mask=i < features, other=0.0)
    u = tl.load(layer_at + features + i, mask=i < features, other=0.0)
    scale = tl.max(tl.abs(w), 0)
    moves = scale >= LEAST
    w = w / tl.where(moves, scale, 1.0)
    length = tl.sqrt(tl.where(moves, tl.sum(w * w, 0), 1.0))
    tl.store(entry_at + INVERSE_NORM, tl.where(moves, length * scale, 0.0))
    tl.store(entry_at + PRODUCT, tl.where(moves, tl.sum(w * u, 0) * scale, 0.0))


@triton.jit
def _entries(at, there, CENTRED: tl.constexpr):
    """The entries, from ‖w‖ and x."""
    norm = tl.load(at + INVERSE_NORM, mask=there, other=0.0).to(tl.float64)
    x = tl.load(at + PRODUCT, mask=there, other=0.0).to(tl.float64)
    moves = norm > 0
    gap, change, slack, rate = _slope_at(x, CENTRED)
    inverse_norm = tl.where(moves, 1 / tl.where(moves, norm, 1.0), 0.0)
    real: tl.constexpr = at.dtype.element_ty
    tl.store(at + INVERSE_NORM, inverse_norm.to(real), mask=there)
    tl.store(at + GAMMA, (gap * inverse_norm).to(real), mask=there)
    tl.store(at + CHANGE, tl.where(moves, change, 0.0).to(real), mask=there)
    tl.store(at + SLACK, tl.where(moves, slack, 1.0).to(real), mask=there)
    tl.store(at + RATE, tl.where(moves, rate, 0.0).to(real), mask=there)


@triton.jit
def _slope_at(x, CENTRED: tl.constexpr):
    """m(x) − x, m′(x) − 1, s = m(x) + 1 and d ln s/dx, none by a cancellation."""
    t = _shifted(x, CENTRED)
    small = tl.exp(-tl.abs(t))
    bit = log1p(small)
    right = t >= 0
    slack = tl.where(right, t + bit, bit)
    gap = tl.where(right, bit, bit - t) - 1
    change = -tl.where(right, small, 1.0) / (1 + small)
    # softplus(t)/σ(t) → 1 as t → −∞, where both leave the floats
    known = t > -700
    rate = tl.where(known, tl.where(right, 1.0, small) / (1 + small) / tl.where(known, slack, 1.0), 1.0)
    if CENTRED:
        gap = gap + _CENTRE
        near = tl.abs(x) < 1
        x = tl.where(near, x, 0.0)
        grown = expm1(x)
        m = log1p(grown * _SHARE)
        odds = (1 + grown) * _E_1
        gap = tl.where(near, m - x, gap)
        change = tl.where(near, -1 / (1 + odds), change)
        slack = tl.where(near, 1 + m, slack)
        rate = tl.where(near, odds / (1 + odds) / (1 + m), rate)
    return gap, change, slack, rate


@triton.jit
def _shifted(x, CENTRED: tl.constexpr):
    return x + _CENTRE if CENTRED else x


@triton.jit
def log_slack_of(x, slack, CENTRED: tl.constexpr):
    """ln s, also where s itself has left the floats; 0 where the table has s = 1 for no w."""
    t = _shifted(x, CENTRED)
    return tl.where(t < -20, t - tl.exp(t) / 2, tl.log(slack))


@triton.jit
def slack_of(x, slack, CENTRED: tl.constexpr):
    """The s of a dtype wider than the one in which `slack` was stored."""
    t = _shifted(x, CENTRED)
    return tl.where(t < -20, tl.exp(t - tl.exp(t) / 2), slack)


@triton.jit
def unconstrain(by_w, by_u_hat, slack_part, w, u, direction, inverse_norm, gamma, change):
    """The gradients by w and u: from that by w at hand, by û, and what ln s hands to x.

    With d = w/‖w‖ and n = ‖w‖: û = u + γ·d, γ = gap(x)/n, x = n·dᵀu. For the gradient g by û and q = dᵀg,
    x has q·gap′(x)/n + ∂/∂ln s·d ln s/dx =: p; u has g + p·w, and w has (γ/n)·g + p·u − 2(qγ/n)·d.
    """
    q = tl.sum(direction * by_u_hat, 0)
    p = q * change * inverse_norm + slack_part
    ratio = gamma * inverse_norm
    return by_w + ratio * (by_u_hat - 2 * q * direction) + p * u, by_u_hat + p * w
