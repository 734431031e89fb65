"""Chains of planar layers, compiled: values, and gradients by hand. `flowvi.kernels.reference` is the definition.

Points are (N, R, D), N of them for each of R rows of parameters (R, K, 2D + 1). An item of work is a row with one of
`chunks` shares of its points. For each layer of a row, `table` (R, K, 6) keeps 1/‖w‖, x = wᵀu, γ = (m(x) − x)/‖w‖,
m′(x) − 1, s = 1 + wᵀû and d ln s/dx, so that û = u + γ·w/‖w‖; `saved` (N, R, K) keeps a = wᵀz + b.
"""

from __future__ import annotations

import math

import numpy as np

from flowvi.kernels.cpu.rows import clear, copy, dot, size_of
from flowvi.kernels.cpu.team import array, inlined, kernel, share, table, taken
from flowvi.kernels.roots import LEAK

__all__ = ["gradient", "run"]

INVERSE_NORM, PRODUCT, GAMMA, CHANGE, SLACK, RATE = range(6)
_CENTRE = math.log(math.e - 1)
_LEAST = 1e-300  # below, a determinant is known by its logarithm


@inlined
def _constrain(w, u, centred, entry, u_hat):
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
    _shift(w, u, entry, u_hat)


@inlined
def _shift(w, u, entry, u_hat):
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
def _log_slack(entry, centred):
    t = entry[PRODUCT] + (_CENTRE if centred else 0.0)
    return t - math.exp(t) / 2 if t < -20 else math.log(entry[SLACK])


@inlined
def _activation(a, leaky):
    """h(a) and h′(a)."""
    if leaky:
        return (a, 1.0) if a > 0 else (LEAK * a, LEAK)
    if abs(a) < 0.35:
        shrunk = math.expm1(-2 * abs(a))
        small = 1 + shrunk
    else:  # far out, small would be a cancellation
        small = math.exp(-2 * abs(a))
        shrunk = small - 1
    below = 1 + small
    return math.copysign(shrunk / below, a), 4 * small / (below * below)


@inlined
def _determinant(a, h, slope, slack, leaky):
    """1 + c·h′(a), c = s − 1; from positive terms only where c is near −1."""
    if leaky:
        return slack if a >= 0 else 1 + LEAK * (slack - 1)
    return 1 + slope * (slack - 1) if slack > 0.5 else h * h + slope * slack


@inlined
def _log_determinant(h, slope, entry, centred, leaky):
    """Its logarithm, where it is too small itself."""
    log_slack = _log_slack(entry, centred)
    if leaky or h == 0:
        return log_slack
    one, other = 2 * math.log(abs(h)), math.log(slope) + log_slack
    return max(one, other) + math.log1p(math.exp(-abs(one - other)))


@inlined
def _root(target, slack, leaky):
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
        h, slope = _activation(a, False)
        residual = (a - h) + slack * h - r
        if not abs(residual) > 4e-16 * (a + slack * h + r):
            break
        a = max(a - residual / (h * h + slack * slope), 0.0)
    return math.copysign(a, target)


@kernel
def run(data):
    """The image of z, the log-determinant, and what the gradient will need, if that has entries."""
    first, last, chunks, inverse, centred, leaky = share(data)
    z, parameters, out, log_det = array(data, 0), array(data, 1), array(data, 2), array(data, 3)
    saved, entries_kept = array(data, 4), table(data, 5)
    points, rows, features = z.shape
    length = parameters.shape[1]
    real = z.dtype.type
    u_hat = np.empty((length, features), z.dtype)
    entries = np.empty((length, 6))
    for item in range(first, last):
        row, start, stop = taken(item, rows, chunks, points)
        for n in range(start, stop):
            y = out[n, row]
            copy(z[n, row], y)
            total, product = 0.0, 1.0
            for step in range(length):
                k = length - 1 - step if inverse else step
                w, entry = parameters[row, k], entries[k]
                if n == start:  # here, not before: it fills the time for which each layer waits for the last
                    _constrain(w[:features], w[features : 2 * features], centred, entry, u_hat[k])
                along = dot(w[:features], y)
                if inverse:
                    a = real(_root(float(along) + float(w[2 * features]), entry[SLACK], leaky))
                else:
                    a = along + w[2 * features]
                h, slope = _activation(float(a), leaky)
                change = real(-h if inverse else h)
                for i in range(features):
                    y[i] += change * u_hat[k, i]
                if saved.shape[0] > 0:
                    saved[n, row, k] = a
                det = _determinant(float(a), h, slope, entry[SLACK], leaky)
                if not det < _LEAST:
                    product *= det
                    if not 1e-150 < product < 1e150:
                        total += math.log(product)
                        product = 1.0
                else:
                    total += _log_determinant(h, slope, entry, centred, leaky)
            log_det[n, row, 0] = total + math.log(product)
        if item < rows and entries_kept.shape[0] > 0:
            for k in range(length):
                copy(entries[k], entries_kept[row, k])


@kernel
def gradient(data):
    """The gradients by z, and by the parameters, (chunks·R, K, 2D + 1): sums over each item's points."""
    first, last, chunks, inverse, centred, leaky = share(data)
    z, parameters, saved, grad_out = array(data, 0), array(data, 1), array(data, 2), array(data, 3)
    grad_log_det, grad_z, grad_parameters = array(data, 4), array(data, 5), array(data, 6)
    entries = table(data, 7)
    points, rows, features = z.shape
    length = parameters.shape[1]
    real = z.dtype.type
    u_hat = np.empty((length, features), z.dtype)
    way = np.empty((length, features), z.dtype)  # the point before each layer
    activations = np.empty((length, 2))  # h(a) and h′(a)
    by_slack = np.empty(length)  # by ln s
    sign = -1.0 if inverse else 1.0
    for item in range(first, last):
        row, start, stop = taken(item, rows, chunks, points)
        sums = grad_parameters[item]
        clear(sums)
        for n in range(start, stop):
            g, y, by_log_det = grad_z[n, row], z[n, row], float(grad_log_det[n, row, 0])
            copy(grad_out[n, row], g)
            for step in range(length):
                k = length - 1 - step if inverse else step
                layer = parameters[row, k]
                if n == start:
                    _shift(layer[:features], layer[features : 2 * features], entries[row, k], u_hat[k])
                    by_slack[k] = 0.0
                if step == 0:
                    copy(y, way[k])
                activations[k, 0], activations[k, 1] = _activation(float(saved[n, row, k]), leaky)
                if step < length - 1:
                    after = k - 1 if inverse else k + 1
                    change = real(sign * activations[k, 0])
                    for i in range(features):
                        way[after, i] = way[k, i] + change * u_hat[k, i]
            for step in range(length):
                k = step if inverse else length - 1 - step
                w, entry, total = parameters[row, k], entries[row, k], sums[k]
                a, h, slope = float(saved[n, row, k]), activations[k, 0], activations[k, 1]
                by_step = float(dot(u_hat[k], g))
                by_a, by_s, by_h = _through(a, h, slope, entry, by_log_det, by_step, inverse, centred, leaky)
                by_slack[k] += by_s
                along, height = real(by_a), real(by_h)
                for i in range(features):
                    total[i] += along * way[k, i]
                    total[features + i] += height * g[i]
                    g[i] += along * w[i]
                total[2 * features] += along
                if n == stop - 1:
                    _unconstrain(w[:features], w[features : 2 * features], entry, by_slack[k], total)


@inlined
def _through(a, h, slope, entry, by_log_det, by_step, inverse, centred, leaky):
    """A layer's gradients by a (or, backwards, by its target) and by ln s; and ±h, by which g adds to that by û."""
    slack = entry[SLACK]
    det = _determinant(a, h, slope, slack, leaky)
    if leaky:
        by_a, by_s = 0.0, 1.0 if a >= 0 else LEAK * slack / det
    elif det > _LEAST:
        each = slope / det
        by_a, by_s = 2 * h * (1 - slack) * each, slack * each
    else:  # as ratios, which stay in the floats
        by_a = 2 * slope * (1 - slack) / (h + slope * slack / h) if h != 0 else 0.0
        log_det = _log_determinant(h, slope, entry, centred, leaky)
        by_s = math.exp(math.log(slope) + _log_slack(entry, centred) - log_det)
    by_a, by_s = by_log_det * by_a, by_log_det * by_s
    if not inverse:
        return by_a + by_step * slope, by_s, h
    by_target = (by_a - by_step * slope) / det  # da/dtarget = 1/det, da/d ln s = −s·h/det
    return by_target, by_s - by_target * slack * h, -h


@inlined
def _unconstrain(w, u, entry, by_slack, sums):
    """From the gradient by û, in the place of that by u, to those by w and u.

    With d = w/‖w‖ and n = ‖w‖: û = u + γ·d, γ = gap(x)/n, x = n·dᵀu. For the gradient g by û and q = dᵀg,
    x has q·gap′(x)/n + ∂/∂ln s·d ln s/dx =: p; u has g + p·w, and w has (γ/n)·g + p·u − 2(qγ/n)·d.
    """
    inverse_norm, gamma, real = entry[INVERSE_NORM], entry[GAMMA], sums.dtype.type
    if inverse_norm == 0:
        return
    features = w.shape[0]
    by_u_hat = sums[features : 2 * features]
    q = float(dot(w, by_u_hat)) * inverse_norm
    p = q * entry[CHANGE] * inverse_norm + by_slack * entry[RATE]
    one, two = gamma * inverse_norm, -2 * q * gamma * inverse_norm
    if inverse_norm < 1e15:
        first, second, third = real(one), real(p), real(two * inverse_norm)
        for i in range(features):
            g = by_u_hat[i]
            sums[i] += first * g + second * u[i] + third * w[i]
            by_u_hat[i] = g + second * w[i]
    else:  # they may leave the floats
        for i in range(features):
            g = float(by_u_hat[i])
            sums[i] += real(one * g + p * float(u[i]) + two * (float(w[i]) * inverse_norm))
            by_u_hat[i] = real(g + p * float(w[i]))
