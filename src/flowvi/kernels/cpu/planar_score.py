"""The score along a chain of planar layers, compiled. `flowvi.kernels.score` is the definition."""

from __future__ import annotations

import numpy as np

from flowvi.kernels.cpu.planar_layer import SLACK, activation, constrain, determinant
from flowvi.kernels.cpu.rows import copy, dot
from flowvi.kernels.cpu.team import array, inlined, kernel, share, taken

__all__ = ["run"]


@kernel
def run(data):
    """Points and scores (N, R, D) after the chain."""
    first, last, chunks, _, centred, leaky = share(data)
    z, slope, parameters, out, out_slope = (
        array(data, 0),
        array(data, 1),
        array(data, 2),
        array(data, 3),
        array(data, 4),
    )
    points, rows, features = z.shape
    length = parameters.shape[1]
    real = z.dtype.type
    u_hat, entries = np.empty((length, features), z.dtype), np.empty((length, 6))
    for item in range(first, last):
        row, start, stop = taken(item, rows, chunks, points)
        for n in range(start, stop):
            y, g = out[n, row], out_slope[n, row]
            copy(z[n, row], y)
            copy(slope[n, row], g)
            for k in range(length):
                w = parameters[row, k]
                if n == start:
                    constrain(w[:features], w[features : 2 * features], centred, entries[k], u_hat[k])
                a = float(dot(w[:features], y)) + float(w[2 * features])
                h, back = _step(a, float(dot(u_hat[k], g)), entries[k], leaky)
                change, less = real(h), real(back)
                for i in range(features):
                    y[i] += change * u_hat[k, i]
                    g[i] -= less * w[i]


@inlined
def _step(a, along, entry, leaky):
    """h(a), and the multiple of w by which the score changes; `along` is ûᵀ times the score."""
    h, first = activation(a, leaky)
    excess = entry[SLACK] - 1  # wᵀû
    second = 0.0 if leaky else -2 * h * first
    det = determinant(a, h, first, entry[SLACK], leaky)
    turn = excess * second / det
    return h, turn + first * (along - turn * excess) / det
