"""One step of RMSprop over a tensor, compiled: each number is read and written once."""

from __future__ import annotations

import math

from flowvi.kernels.cpu.team import array, kernel, share, table, taken

__all__ = ["update"]


@kernel
def update(data):
    """v ← αv + (1 − α)g², b ← µb + g/(√v + ε), p ← p − ηb; the tensors flat, (1, 1, n), and η, α, ε, µ in a table."""
    first, last, chunks, _, _, _ = share(data)
    parameter, grad, square, momentum = array(data, 0), array(data, 1), array(data, 2), array(data, 3)
    rates = table(data, 4)[0, 0]
    size, real = parameter.shape[2], parameter.dtype.type
    step, keep, least, carry = real(rates[0]), real(rates[1]), real(rates[2]), real(rates[3])
    rest = real(1 - rates[1])
    p, g, v, b = parameter[0, 0], grad[0, 0], square[0, 0], momentum[0, 0]
    for item in range(first, last):
        _, start, stop = taken(item, 1, chunks, size)
        for i in range(start, stop):
            v[i] = keep * v[i] + rest * g[i] * g[i]
            b[i] = carry * b[i] + g[i] / (math.sqrt(v[i]) + least)
            p[i] -= step * b[i]
