"""One planar layer as functions of a = wᵀz + b and s = 1 + wᵀû: values, determinants, the root and gradients."""

from __future__ import annotations

import triton
import triton.language as tl

from flowvi.kernels import roots
from flowvi.kernels.cuda.planar_table import log_slack_of, slack_of
from flowvi.kernels.cuda.scalars import log1p, tanh

__all__ = ["activation", "determinant", "log_determinant", "root", "through"]

_LEAK = tl.constexpr(roots.LEAK)
_LEAST = tl.constexpr(1e-30)  # below, a determinant is known by its logarithm
_MOST_STEPS = tl.constexpr(100)


@triton.jit
def activation(a, LEAKY: tl.constexpr):
    """h(a) and h′(a)."""
    if LEAKY:
        slope = tl.where(a > 0, 1.0, tl.full(a.shape, _LEAK, a.dtype))
        h = a * slope
    else:
        h, slope = tanh(a)
    return h, slope


@triton.jit
def determinant(a, h, slope, slack, LEAKY: tl.constexpr):
    """1 + c·h′(a) from positive terms only, c = s − 1."""
    return tl.where(a >= 0, slack, 1 + (slack - 1) * _LEAK) if LEAKY else h * h + slope * slack


@triton.jit
def log_determinant(det, h, slope, x, slack, CENTRED: tl.constexpr, LEAKY: tl.constexpr):
    """Its logarithm, also where it is too small itself."""
    log_det = tl.log(det)
    if tl.min(det, 0) < _LEAST:
        log_slack = log_slack_of(x, slack, CENTRED)
        if LEAKY:
            exact = log_slack
        else:
            one, other = 2 * tl.log(tl.abs(h)), tl.log(slope) + log_slack
            exact = tl.maximum(one, other) + log1p(tl.exp(-tl.abs(one - other)))
        log_det = tl.where(det < _LEAST, exact, log_det)
    return log_det


@triton.jit
def root(target, slack, LEAKY: tl.constexpr):
    """The a that solves a + c·h(a) = target, in float64."""
    if LEAKY:
        a = tl.where(target >= 0, target / slack, target / (1 + (slack - 1) * _LEAK))
    else:
        a = _newton(tl.abs(target), slack)
        a = tl.where(target < 0, -a, a)
    return a


@triton.jit
def _newton(r, slack):
    """Newton's method from the side where it is monotone, see `flowvi.kernels.roots`."""
    c = slack - 1
    linear, saturated = r / slack, r - c
    # the cube root; of 0, that is e^−∞
    above = tl.exp(tl.log(r * (3 + 1.2 * saturated * saturated)) / 3)
    above = tl.minimum(tl.minimum(linear, saturated), above)
    a = tl.where(c < 0, above, tl.maximum(linear, saturated))
    a = tl.where(r == 0, 0.0, a)
    step, going = 0, 1
    while (step < _MOST_STEPS) & (going > 0):
        h, slope = tanh(a)
        residual = (a - h) + slack * h - r
        # more than the rounding of the residual itself; a root that is infinite or NaN is done
        moving = tl.abs(residual) > 4e-16 * (a + slack * h + r)
        a = tl.where(moving, tl.maximum(a - residual / (h * h + slack * slope), 0.0), a)
        going = tl.max(moving.to(tl.int32), 0)
        step += 1
    return a


@triton.jit
def through(a, x, slack, by_log_det, by_step, INVERSE: tl.constexpr, CENTRED: tl.constexpr, LEAKY: tl.constexpr):
    """Gradients by a (or, backwards, by its target) and by ln s; and ±h, by which g adds to that by û."""
    if INVERSE:
        slack = slack_of(x, slack, CENTRED)
    h, slope = activation(a, LEAKY)
    det = determinant(a, h, slope, slack, LEAKY)
    by_slack = _by_slack(a, h, slope, det, x, slack, CENTRED, LEAKY) * by_log_det
    if LEAKY:
        by_a = tl.zeros_like(a)
    else:
        away = h != 0
        divisor = tl.where(away, h, 1.0)
        by_a = tl.where(away, 2 * slope * (1 - slack) / (h + slope * slack / divisor), 0.0) * by_log_det
    if INVERSE:
        # da/dtarget = 1/det, da/d ln s = −s·h/det
        by_a = (by_a - by_step * slope) / det
        by_slack -= by_a * slack * h
        h = -h
    else:
        by_a += by_step * slope
    return by_a, by_slack, h


@triton.jit
def _by_slack(a, h, slope, det, x, slack, CENTRED: tl.constexpr, LEAKY: tl.constexpr):
    """D ln det/d ln s."""
    if LEAKY:
        rate = tl.where(a >= 0, 1.0, slack * _LEAK / det)
    else:
        rate = slope * slack / det
        if tl.min(det, 0) < _LEAST:
            log_det = log_determinant(det, h, slope, x, slack, CENTRED, LEAKY)
            exact = tl.exp(tl.log(slope) + log_slack_of(x, slack, CENTRED) - log_det)
            rate = tl.where(det < _LEAST, exact, rate)
    return rate
