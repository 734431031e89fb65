"""Chains of planar layers, compiled: values, and gradients by hand. `flowvi.kernels.reference` is the definition.

Points are (N, R, D), N of them for each of R rows of parameters (R, K, 2D + 1). An item of work is a row with one of
`chunks` shares of its points; several points of one row go through it as a tile. For each layer of a row, `table`
(R, K, 6) keeps an entry (`planar_layer`); `saved` (N, R, K) keeps a = wᵀz + b.
"""

from __future__ import annotations

import math

import numpy as np

from flowvi.kernels.cpu.planar_layer import (
    CHANGE,
    GAMMA,
    INVERSE_NORM,
    LEAST,
    RATE,
    SLACK,
    activation,
    constrain,
    determinant,
    log_determinant,
    log_slack,
    root,
    shift,
)
from flowvi.kernels.cpu.rows import clear, copy, dot
from flowvi.kernels.cpu.team import array, inlined, kernel, share, table, taken
from flowvi.kernels.cpu.tiles import FEWEST, TILE, add_outer, gather, scatter, weigh, width
from flowvi.kernels.roots import LEAK

__all__ = ["gradient", "run"]

_TOTAL, _PRODUCT, _DET, _SLOPE, _H = range(5)  # what a tile keeps of each point


@kernel
def run(data):
    """The image of z, the log-determinant, and what the gradient will need, if that has entries."""
    first, last, chunks, inverse, centred, leaky = share(data)
    z, parameters, out, log_det = array(data, 0), array(data, 1), array(data, 2), array(data, 3)
    saved, entries_kept = array(data, 4), table(data, 5)
    points, rows, features = z.shape
    length, keep = parameters.shape[1], saved.shape[0] > 0
    u_hat, entries = np.empty((length, features), z.dtype), np.empty((length, 6))
    tile, sums = np.empty((features, TILE), z.dtype), np.empty((length, TILE), z.dtype)
    heights, work = np.empty(TILE, z.dtype), np.empty((5, TILE))
    for item in range(first, last):
        row, start, stop = taken(item, rows, chunks, points)
        n = start
        while n < stop:
            count = min(stop - n, TILE) if stop - n >= FEWEST else 1
            layers, fresh = parameters[row], n == start
            if count == 1:
                y = out[n, row]
                copy(z[n, row], y)
                log_det[n, row, 0] = _alone(layers, inverse, centred, leaky, fresh, u_hat, entries, y, sums)
            else:
                gather(z, row, n, count, tile)
                _together(
                    layers, inverse, centred, leaky, fresh, u_hat, entries, tile, width(count), sums, heights, work
                )
                scatter(tile, out, row, n, count)
                for t in range(count):
                    log_det[n + t, row, 0] = work[_TOTAL, t] + math.log(work[_PRODUCT, t])
            if keep:
                scatter(sums, saved, row, n, count)
            n += count
        if item < rows and entries_kept.shape[0] > 0:
            for k in range(length):
                copy(entries[k], entries_kept[row, k])


@inlined
def _alone(layers, inverse, centred, leaky, fresh, u_hat, entries, y, a):
    """One point through the layers, in place; a = wᵀz + b of each, (K, 1…). Gives the log-determinant."""
    length, features = u_hat.shape
    real = y.dtype.type
    total, product = 0.0, 1.0
    for step in range(length):
        k = length - 1 - step if inverse else step
        w, entry = layers[k], entries[k]
        if fresh:  # here, not before: it fills the time for which each layer waits for the last
            constrain(w[:features], w[features : 2 * features], centred, entry, u_hat[k])
        along = dot(w[:features], y)
        if inverse:
            a[k, 0] = real(root(float(along) + float(w[2 * features]), entry[SLACK], leaky))
        else:
            a[k, 0] = along + w[2 * features]
        h, slope = activation(a[k, 0], leaky)
        change = real(-h if inverse else h)
        for i in range(features):
            y[i] += change * u_hat[k, i]
        det = determinant(float(a[k, 0]), h, slope, entry[SLACK], leaky)
        if not det < LEAST:
            product *= det
            if not 1e-150 < product < 1e150:
                total += math.log(product)
                product = 1.0
        else:
            total += log_determinant(h, slope, entry, centred, leaky)
    return total + math.log(product)


@inlined
def _together(layers, inverse, centred, leaky, fresh, u_hat, entries, tile, count, a, heights, work):
    """The same with the columns of a tile; a (K, TILE)."""
    length, features = u_hat.shape
    real = tile.dtype.type
    for t in range(count):
        work[_TOTAL, t], work[_PRODUCT, t] = 0.0, 1.0
    low = high = 1.0
    for step in range(length):
        k = length - 1 - step if inverse else step
        w, entry = layers[k], entries[k]
        if fresh:
            constrain(w[:features], w[features : 2 * features], centred, entry, u_hat[k])
        weigh(w[:features], w[2 * features], tile, count, a[k])
        if inverse:
            for t in range(count):
                a[k, t] = real(root(float(a[k, t]), entry[SLACK], leaky))
        low, high = _determinants(a[k], count, low, high, entry, centred, leaky, work)
        sign = -1.0 if inverse else 1.0
        for t in range(count):
            heights[t] = real(sign * work[_H, t])
        add_outer(u_hat[k], heights, tile, count)


@inlined
def _determinants(a, count, low, high, entry, centred, leaky, work):
    """h(a) of each point, and its determinant among its product; `low` and `high`, which bound all products, anew."""
    slack = entry[SLACK]
    _activations(a, count, leaky, work[_H], work[_SLOPE])
    least, most = _each(a, count, slack, leaky, work[_H], work[_SLOPE], work[_DET])
    low, high = low * least, high * most
    if not (low > LEAST and high < 1 / LEAST):
        for t in range(count):
            work[_TOTAL, t] += math.log(work[_PRODUCT, t])
            work[_PRODUCT, t] = 1.0
        low, high = least, most
    if low > LEAST:
        for t in range(count):
            work[_PRODUCT, t] *= work[_DET, t]
        return low, high
    for t in range(count):
        det = work[_DET, t]
        small = det < LEAST
        work[_TOTAL, t] += (
            log_determinant(work[_H, t], work[_SLOPE, t], entry, centred, leaky) if small else math.log(det)
        )
    return 1.0, 1.0


@inlined
def _activations(a, count, leaky, h, slope):
    if leaky:
        for t in range(count):
            h[t], slope[t] = activation(a[t], True)
    else:
        for t in range(count):
            h[t], slope[t] = activation(a[t], False)


@inlined
def _each(a, count, slack, leaky, h, slope, det):
    """The determinants, the least of them and the largest."""
    least, most = math.inf, 0.0
    for t in range(count):
        det[t] = determinant(float(a[t]), h[t], slope[t], slack, leaky)
        least, most = min(least, det[t]), max(most, det[t])
    return least, most


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
            for k in range(length):
                activations[k, 0], activations[k, 1] = activation(saved[n, row, k], leaky)
            for step in range(length):
                k = length - 1 - step if inverse else step
                layer = parameters[row, k]
                if n == start:
                    shift(layer[:features], layer[features : 2 * features], entries[row, k], u_hat[k])
                    by_slack[k] = 0.0
                if step == 0:
                    copy(y, way[k])
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
    det = determinant(a, h, slope, slack, leaky)
    if leaky:
        by_a, by_s = 0.0, 1.0 if a >= 0 else LEAK * slack / det
    elif det > LEAST:
        each = slope / det
        by_a, by_s = 2 * h * (1 - slack) * each, slack * each
    else:  # as ratios, which stay in the floats
        by_a = 2 * slope * (1 - slack) / (h + slope * slack / h) if h != 0 else 0.0
        log_det = log_determinant(h, slope, entry, centred, leaky)
        by_s = math.exp(math.log(slope) + log_slack(entry, centred) - log_det)
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
