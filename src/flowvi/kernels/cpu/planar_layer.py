"""One planar layer, compiled: û, h, the determinant and the root. `flowvi.kernels.reference` is the definition.

An entry of the table keeps, of a layer, 1/‖w‖, x = wᵀu, γ = (m(x) − x)/‖w‖, m′(x) − 1, s = 1 + wᵀû and d ln s/dx, so
that û = u + γ·w/‖w‖.
"""

from __future__ import annotations

import math

from flowvi.kernels.cpu.rows import copy, size_of
from flowvi.kernels.cpu.team import inlined
from flowvi.kernels.cpu.vectors import hyperbolic
from flowvi.kernels.roots import LEAK

__all__ = [
    "CHANGE",
    "GAMMA",
    "INVERSE_NORM",
    "LEAST",
    "PRODUCT",
    "RATE",
    "SLACK",
    "activation",
    "constrain",
    "determinant",
    "log_determinant",
    "log_slack",
    "root",
    "shift",
]

INVERSE_NORM, PRODUCT, GAMMA, CHANGE, SLACK, RATE = range(6)
LEAST = 1e-300  # below, a determinant is known by its logarithm
_CENTRE = math.log(math.e - 1)


@inlined
def constrain(w, u, centred, entry, u_hat):
    """û, and the entry of the table."""
    square = product = w.dtype.type(0)
    for i in range(w.shape[0]):
        square += w[i] * w[i]
        product += w[i] * u[i]
    norm, x = math.sqrt(float(square)), float(product)
    if not 1e-15 < norm < 1e15:  # squares may have left the floats
        norm, x = size_of(w), 0.0
        for i in range(w.shape[0]):
            x += float(w[i]) / norm * float(u[i])
        x *= norm
    if norm == 0.0:
        entry[INVERSE_NORM] = entry[PRODUCT] = entry[GAMMA] = entry[CHANGE] = entry[RATE] = 0.0
        entry[SLACK] = 1.0
        copy(u, u_hat)
        return
    gap, change, slack, rate = _slope_at(x, centred)
    inverse_norm = 1 / norm
    entry[INVERSE_NORM], entry[PRODUCT] = inverse_norm, x
    entry[GAMMA], entry[CHANGE], entry[SLACK], entry[RATE] = gap * inverse_norm, change, slack, rate
    shift(w, u, entry, u_hat)


@inlined
def shift(w, u, entry, u_hat):
    """û = u + γ·w/‖w‖."""
    real, gamma, inverse_norm = u_hat.dtype.type, entry[GAMMA], entry[INVERSE_NORM]
    along = real(gamma * inverse_norm)
    if inverse_norm < 1e15:
        for i in range(w.shape[0]):
            u_hat[i] = u[i] + along * w[i]
    else:  # γ/‖w‖ may leave the floats
        for i in range(w.shape[0]):
            u_hat[i] = real(float(u[i]) + gamma * (float(w[i]) * inverse_norm))


@inlined
def _slope_at(x, centred):
    """m(x) − x, m′(x) − 1, s = m(x) + 1 and d ln s/dx, none by a cancellation."""
    if centred and abs(x) < 1:
        grown = math.expm1(x)
        m = math.log1p((1 - 1 / math.e) * grown)
        odds = (math.e - 1) * (1 + grown)
        return m - x, -1 / (1 + odds), 1 + m, odds / (1 + odds) / (1 + m)
    shift = _CENTRE if centred else 0.0
    t = x + shift
    small = math.exp(-abs(t))
    bit = math.log1p(small)
    if t >= 0:
        slack = t + bit
        return bit - 1 + shift, -small / (1 + small), slack, 1 / (1 + small) / slack
    # softplus(t)/σ(t) → 1 as t → −∞, where both leave the floats
    slack = bit
    rate = small / (1 + small) / slack if t > -700 else 1.0
    return bit - t - 1 + shift, -1 / (1 + small), slack, rate


@inlined
def log_slack(entry, centred):
    """ln s, also where s is too small itself."""
    t = entry[PRODUCT] + (_CENTRE if centred else 0.0)
    return t - math.exp(t) / 2 if t < -20 else math.log(entry[SLACK])


@inlined
def activation(a, leaky):
    """h(a) and h′(a)."""
    if leaky:
        return (a, 1.0) if a > 0 else (LEAK * a, LEAK)
    return hyperbolic(a)


@inlined
def determinant(a, h, slope, slack, leaky):
    """1 + c·h′(a), c = s − 1; from positive terms only where c is near −1."""
    if leaky:
        return slack if a >= 0 else 1 + LEAK * (slack - 1)
    return 1 + slope * (slack - 1) if slack > 0.5 else h * h + slope * slack


@inlined
def log_determinant(h, slope, entry, centred, leaky):
    """Its logarithm, where it is too small itself."""
    slack = log_slack(entry, centred)
    if leaky or h == 0:
        return slack
    one, other = 2 * math.log(abs(h)), math.log(slope) + slack
    return max(one, other) + math.log1p(math.exp(-abs(one - other)))


@inlined
def root(target, slack, leaky):
    """The a that solves a + c·h(a) = target; by Newton from the side where it is monotone, see `kernels.roots`."""
    if leaky:
        return target / slack if target >= 0 else target / (1 + LEAK * (slack - 1))
    c, r = slack - 1, abs(target)
    if r == 0:
        return target
    linear, saturated = r / slack, r - c
    if c < 0:
        a = min(linear, saturated)
        a = min(a, (r * (3 + 1.2 * saturated * saturated)) ** (1 / 3))
    else:
        a = max(linear, saturated)
    for _ in range(100):
        h, slope = activation(a, False)
        residual = (a - h) + slack * h - r
        if not abs(residual) > 4e-16 * (a + slack * h + r):
            break
        a = max(a - residual / (h * h + slack * slope), 0.0)
    return math.copysign(a, target)
