"""Chains of Householder reflections, compiled: values, and gradients by hand.

z' = z − 2(v̂ᵀz)·v̂ for each of the K·n vectors of a row, parameters (R, K, n·D); nothing is saved.
"""

from __future__ import annotations

import numpy as np

from flowvi.kernels.cpu.rows import clear, copy, dot, size_of
from flowvi.kernels.cpu.team import array, inlined, kernel, share, taken

__all__ = ["gradient", "run"]


@inlined
def _direct(parameters, features, inverse, directions, sizes):
    """v̂ of each reflection in the order of its turn, and ‖v‖; both 0 where there is no v."""
    each, count = parameters.shape[1] // features, len(sizes)
    for step in range(count):
        place = count - 1 - step if inverse else step
        at = place % each * features
        v = parameters[place // each, at : at + features]
        sizes[step] = size_of(v)
        for i in range(features):
            directions[step, i] = v.dtype.type(float(v[i]) / sizes[step]) if sizes[step] > 0 else v.dtype.type(0)


@kernel
def run(data):
    """The image of z and the log-determinant, 0."""
    first, last, chunks, inverse, _, _ = share(data)
    z, parameters, out, log_det = array(data, 0), array(data, 1), array(data, 2), array(data, 3)
    points, rows, features = z.shape
    count = parameters.shape[1] * (parameters.shape[2] // features)
    directions, sizes = np.empty((count, features), z.dtype), np.empty(count)
    for item in range(first, last):
        row, start, stop = taken(item, rows, chunks, points)
        _direct(parameters[row], features, inverse, directions, sizes)
        for n in range(start, stop):
            y = out[n, row]
            copy(z[n, row], y)
            log_det[n, row, 0] = 0
            for step in range(count):
                _reflect(y, directions[step])


@inlined
def _reflect(y, v):
    twice = -2 * dot(y, v)
    for i in range(y.shape[0]):
        y[i] += y.dtype.type(twice) * v[i]


@kernel
def gradient(data):
    """The gradients by z, and by the parameters, (chunks·R, K, n·D): sums over each item's points."""
    first, last, chunks, inverse, _, _ = share(data)
    z, parameters, grad_out, grad_z = array(data, 0), array(data, 1), array(data, 3), array(data, 5)
    grad_parameters = array(data, 6)
    points, rows, features = z.shape
    each = parameters.shape[2] // features
    count = parameters.shape[1] * each
    directions, sizes = np.empty((count, features), z.dtype), np.empty(count)
    way = np.empty((count + 1, features), z.dtype)  # the point before each reflection
    by_direction = np.empty((count, features), z.dtype)
    for item in range(first, last):
        row, start, stop = taken(item, rows, chunks, points)
        _direct(parameters[row], features, inverse, directions, sizes)
        clear(by_direction)
        for n in range(start, stop):
            copy(z[n, row], way[0])
            for step in range(count):
                copy(way[step], way[step + 1])
                _reflect(way[step + 1], directions[step])
            g = grad_z[n, row]
            copy(grad_out[n, row], g)
            for step in range(count - 1, -1, -1):
                y, v = way[step], directions[step]
                one, other = z.dtype.type(-2 * dot(g, v)), z.dtype.type(-2 * dot(y, v))
                for i in range(features):
                    by_direction[step, i] += one * y[i] + other * g[i]
                    g[i] += one * v[i]
        for step in range(count):
            place = count - 1 - step if inverse else step
            at = place % each * features
            _unit(
                by_direction[step],
                directions[step],
                sizes[step],
                grad_parameters[item, place // each, at : at + features],
            )


@inlined
def _unit(by_direction, direction, size, by_vector):
    """From the gradient by v/‖v‖ to that by v."""
    along = dot(by_direction, direction)
    for i in range(by_vector.shape[0]):
        rest = float(by_direction[i] - along * direction[i])
        by_vector[i] = by_vector.dtype.type(rest / size) if size > 0 else by_vector.dtype.type(0)
