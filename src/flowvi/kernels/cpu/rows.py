"""Arithmetic on one row of numbers."""

from __future__ import annotations

import math

import numpy as np

from flowvi.kernels.cpu.team import inlined

__all__ = ["clear", "copy", "dot", "size_of", "softplus"]


# array[:] = … takes the compiler seconds


@inlined
def copy(source, target):
    """Numbers from one row to another."""
    for i in range(source.shape[0]):
        target[i] = source[i]


@inlined
def clear(rows):
    """Zeros, (K, P)."""
    for k in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            rows[k, i] = 0


@inlined
def dot(one, other):
    """Σ one·other, in their dtype."""
    total = one.dtype.type(0)
    for i in range(one.shape[0]):
        total += one[i] * other[i]
    return total


@inlined
def size_of(row):
    """‖row‖, in float64; 0 where no entry reaches the smallest normal number. No square leaves the dtype's range."""
    total = float(dot(row, row))
    if 1e-30 < total < 1e30:
        return math.sqrt(total)
    largest = 0.0
    for i in range(row.shape[0]):
        largest = max(largest, abs(float(row[i])))
    if not largest >= np.finfo(row.dtype).tiny:
        return 0.0
    scaled = 0.0
    for i in range(row.shape[0]):
        part = float(row[i]) / largest
        scaled += part * part
    return largest * math.sqrt(scaled)


@inlined
def softplus(x):
    """ln(1 + eˣ), and its derivative."""
    small = math.exp(-abs(x))
    return max(x, 0.0) + math.log1p(small), 1 / (1 + small) if x > 0 else small / (1 + small)
