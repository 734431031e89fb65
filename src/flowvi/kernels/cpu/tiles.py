"""Many points side by side, as the columns of a tile (D, TILE), so that arithmetic fills vector registers.

What one point would wait for, wᵀz before tanh before û·h, the others' work hides. Loops run to `count`, not to TILE:
those of a known length are unrolled before they could be put into registers.
"""

from __future__ import annotations

import numpy as np

from flowvi.kernels.cpu.team import inlined

__all__ = ["FEWEST", "TILE", "add_outer", "gather", "scatter", "weigh", "width"]

TILE = 64
FEWEST = 4  # points for which it is worth it


@inlined
def width(count):
    """The columns that so many points take: whole registers, since what is left of a loop is done one by one."""
    return -(-count // 8) * 8


@inlined
def gather(points, row, start, count, tile):
    """Points start, …, start + count − 1 as columns; zeros in those of the width that are left over."""
    for t in range(count):
        point = points[start + t, row]
        for i in range(point.shape[0]):
            tile[i, t] = point[i]
    for t in range(count, width(count)):
        for i in range(tile.shape[0]):
            tile[i, t] = 0


@inlined
def scatter(tile, points, row, start, count):
    """The reverse."""
    for t in range(count):
        point = points[start + t, row]
        for i in range(point.shape[0]):
            point[i] = tile[i, t]


@inlined
def weigh(w, bias, tile, count, sums):
    """wᵀz + b of each column."""
    for t in range(count):
        sums[t] = bias
    whole = w.shape[0] // 4 * 4
    for i in range(0, whole, 4):  # four at a time: the sums are written less often
        _weigh_four(w, np.uintp(i), tile, count, sums)
    for i in range(whole, w.shape[0]):
        weight, column = w[i], tile[i]
        for t in range(count):
            sums[t] += weight * column[t]


@inlined
def _weigh_four(w, i, tile, count, sums):
    one = np.uintp(1)
    j = i + one
    k = j + one
    m = k + one
    a, b, c, d = w[i], w[j], w[k], w[m]
    first, second, third, fourth = tile[i], tile[j], tile[k], tile[m]
    for t in range(count):
        sums[t] += (a * first[t] + b * second[t]) + (c * third[t] + d * fourth[t])


@inlined
def add_outer(u, heights, tile, count):
    """Each column moves by its height times u."""
    for i in range(u.shape[0]):
        each, column = u[i], tile[i]
        for t in range(count):
            column[t] += each * heights[t]
