"""The planar chain where many points share a row of parameters: they go through it as a tile (`tiles`)."""

from __future__ import annotations

import math

import numpy as np

from flowvi.kernels.cpu.planar_layer import (
    LEAST,
    SLACK,
    activation,
    constrain,
    determinant,
    log_determinant,
    root,
)
from flowvi.kernels.cpu.rows import copy
from flowvi.kernels.cpu.team import array, inlined, kernel, share, table, taken
from flowvi.kernels.cpu.tiles import TILE, add_outer, gather, scatter, weigh, width

__all__ = ["run_many"]

_TOTAL, _PRODUCT, _DET, _SLOPE, _H = range(5)  # what a tile keeps of each point


@kernel
def run_many(data):
    """As `planar.run`."""
    first, last, chunks, inverse, centred, leaky = share(data)
    z, parameters, out, log_det = array(data, 0), array(data, 1), array(data, 2), array(data, 3)
    saved, entries_kept = array(data, 4), table(data, 5)
    points, rows, features = z.shape
    length = parameters.shape[1]
    u_hat, entries = np.empty((length, features), z.dtype), np.empty((length, 6))
    tile, a = np.empty((features, TILE), z.dtype), np.empty((length, TILE), z.dtype)
    heights, work = np.empty(TILE, z.dtype), np.empty((5, TILE))
    for item in range(first, last):
        row, start, stop = taken(item, rows, chunks, points)
        layers = parameters[row]
        for k in range(length):
            constrain(layers[k, :features], layers[k, features : 2 * features], centred, entries[k], u_hat[k])
        for n in range(start, stop, TILE):
            count = min(stop - n, TILE)
            gather(z, row, n, count, tile)
            _through(layers, inverse, centred, leaky, u_hat, entries, tile, width(count), a, heights, work)
            scatter(tile, out, row, n, count)
            for t in range(count):
                log_det[n + t, row, 0] = work[_TOTAL, t] + math.log(work[_PRODUCT, t])
            if saved.shape[0] > 0:
                scatter(a, saved, row, n, count)
        if item < rows and entries_kept.shape[0] > 0:
            for k in range(length):
                copy(entries[k], entries_kept[row, k])


@inlined
def _through(layers, inverse, centred, leaky, u_hat, entries, tile, count, a, heights, work):
    """The columns of a tile through the layers, in place; a = wᵀz + b of each, (K, TILE)."""
    length, features = u_hat.shape
    real = tile.dtype.type
    for t in range(count):
        work[_TOTAL, t], work[_PRODUCT, t] = 0.0, 1.0
    low = high = 1.0
    for step in range(length):
        k = length - 1 - step if inverse else step
        w, entry = layers[k], entries[k]
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
