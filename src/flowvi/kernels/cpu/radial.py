"""Chains of radial layers, compiled: values, and gradients by hand. `flowvi.kernels.reference` is the definition.

A layer sends z = z_ref + o, r = ‖o‖, to z_ref + ρ·o with ρ = (r + s)/(α + r); its inverse has the reciprocal ρ at the r
that solves r(r + s)/(α + r) = R. Shapes are those of the planar chain, parameters (R, K, D + 2); nothing is saved.
"""

from __future__ import annotations

import math

import numpy as np

from flowvi.kernels.cpu.rows import clear, copy, softplus
from flowvi.kernels.cpu.team import array, inlined, kernel, share, taken

__all__ = ["gradient", "run"]


@inlined
def _sizes(layer, features):
    """α and s = β̂ + α of a layer, and their derivatives by its numbers; 0 where they are held at the least."""
    least = float(np.finfo(layer.dtype).tiny) ** (1 / 3)
    alpha, by_a = softplus(float(layer[features]))
    s, by_b = softplus(float(layer[features + 1]))
    if alpha < least:
        alpha, by_a = least, 0.0
    if s < least:
        s, by_b = least, 0.0
    return alpha, by_a, s, by_b


@inlined
def _distance(point, layer):
    """‖point − z_ref‖."""
    total = 0.0
    for i in range(point.shape[0]):
        offset = point[i] - layer[i]
        total += float(offset * offset)
    return math.sqrt(total)


@inlined
def _radius(size, alpha, s):
    """The r whose image is `size`: r² + (s − size)·r − α·size = 0, without a cancellation."""
    half, product = (size - s) / 2, alpha * size
    root = math.sqrt(half * half + product)
    return half + root if half > 0 else product / (root - half) if product > 0 else 0.0


@inlined
def _log_det(r, alpha, s, features):
    """(D − 1)·ln((r + s)/(α + r)) + ln((r² + 2αr + αs)/(α + r)²), each by log1p near 1."""
    change, q = (s - alpha) / (alpha + r), r / (alpha + r)
    ratio = s / (alpha + r)
    bend = change * (1 - q) if q < 0.5 else change * alpha / (alpha + r)
    across = math.log1p(change) if change > -0.5 else math.log(q + ratio)
    along = math.log1p(bend) if bend > -0.5 else math.log(q * (2 - q) + (alpha / (alpha + r)) * ratio)
    return (features - 1) * across + along


@inlined
def _move(y, layer, alpha, s, r, inverse):
    """The layer or its inverse, in place."""
    below = r + s if inverse else alpha + r
    above = alpha + r if inverse else r + s
    change = y.dtype.type((above - below) / below)
    if change > -0.5:
        for i in range(y.shape[0]):
            y[i] += change * (y[i] - layer[i])
    else:  # near −1 the sum would cancel
        ratio = y.dtype.type(above / below)
        for i in range(y.shape[0]):
            y[i] = layer[i] + ratio * (y[i] - layer[i])


@kernel
def run(data):
    """The image of z and the log-determinant."""
    first, last, chunks, inverse, _, _ = share(data)
    z, parameters, out, log_det = array(data, 0), array(data, 1), array(data, 2), array(data, 3)
    points, rows, features = z.shape
    length = parameters.shape[1]
    for item in range(first, last):
        row, start, stop = taken(item, rows, chunks, points)
        for n in range(start, stop):
            y = out[n, row]
            copy(z[n, row], y)
            log_det[n, row, 0] = 0
        for step in range(length):
            layer = parameters[row, length - 1 - step if inverse else step]
            alpha, _, s, _ = _sizes(layer, features)
            for n in range(start, stop):
                y = out[n, row]
                r = _distance(y, layer)
                if inverse:
                    r = _radius(r, alpha, s)
                log_det[n, row, 0] += z.dtype.type(_log_det(r, alpha, s, features))
                _move(y, layer, alpha, s, r, inverse)


@kernel
def gradient(data):
    """The gradients by z, and by the parameters, (chunks·R, K, D + 2): sums over each item's points."""
    first, last, chunks, inverse, _, _ = share(data)
    z, parameters, grad_out = array(data, 0), array(data, 1), array(data, 3)
    grad_log_det, grad_z, grad_parameters = array(data, 4), array(data, 5), array(data, 6)
    points, rows, features = z.shape
    length = parameters.shape[1]
    way = np.empty((length + 1, features), z.dtype)  # the point before each layer
    sizes = np.empty((length, 4))
    for item in range(first, last):
        row, start, stop = taken(item, rows, chunks, points)
        sums = grad_parameters[item]
        clear(sums)
        for k in range(length):
            sizes[k, 0], sizes[k, 1], sizes[k, 2], sizes[k, 3] = _sizes(parameters[row, k], features)
        for n in range(start, stop):
            copy(z[n, row], way[0])
            for step in range(length):
                k = length - 1 - step if inverse else step
                layer, y = parameters[row, k], way[step + 1]
                copy(way[step], y)
                r = _distance(y, layer)
                if inverse:
                    r = _radius(r, sizes[k, 0], sizes[k, 2])
                _move(y, layer, sizes[k, 0], sizes[k, 2], r, inverse)
            g = grad_z[n, row]
            copy(grad_out[n, row], g)
            for step in range(length - 1, -1, -1):
                k = length - 1 - step if inverse else step
                _back(g, way[step], parameters[row, k], sizes[k], float(grad_log_det[n, row, 0]), inverse, sums[k])


@inlined
def _back(g, y, layer, sizes, by_log_det, inverse, sums):
    """From the gradient by the image to that by the point, in place, and to the layer's numbers.

    Forwards, with κ = ρ − 1 = (s − α)/(α + r): z' = z + κ·o, and κ has oᵀg. Backwards ρ = (α + r)/(r + s) with r(R, α,
    s) the root of F = r² + (s − R)·r − αR, F_r = Q/(α + r), Q = r² + 2αr + αs. ∂/∂r, by ρ and by the log-determinant,
    reaches o along o/‖o‖.
    """
    alpha, by_a, s, by_b = sizes[0], sizes[1], sizes[2], sizes[3]
    features = y.shape[0]
    size, product = _distance(y, layer), 0.0
    for i in range(features):
        product += float((y[i] - layer[i]) * g[i])
    r = _radius(size, alpha, s) if inverse else size
    outer, inner = alpha + r, r + s
    q = r * r + 2 * alpha * r + alpha * s
    by_r = by_log_det * (alpha - s) / outer * ((features - 1) / inner + 2 * alpha / q)
    by_alpha = by_log_det * ((s * r - 2 * alpha * r - alpha * s) / q - (features - 1)) / outer
    by_s = by_log_det * ((features - 1) / inner + alpha / q)
    if inverse:
        change = (alpha - s) / inner
        by_r += product * (s - alpha) / (inner * inner)
        by_alpha += product / inner + by_r * size * outer / q
        by_s -= product * outer / (inner * inner) + by_r * r * outer / q
        by_r *= outer * outer / q
    else:
        change = (s - alpha) / outer
        by_r -= product * change / outer
        by_alpha -= product * inner / (outer * outer)
        by_s += product / outer
    real = g.dtype.type
    above, below = (outer, inner) if inverse else (inner, outer)
    ratio = real(above / below)
    if abs(by_r) < 1e30 * size:
        along = real(by_r / size)
        for i in range(features):
            moved = ratio * g[i] + along * (y[i] - layer[i])
            sums[i] += g[i] - moved
            g[i] = moved
    else:  # at a tiny distance, or none
        for i in range(features):
            moved = ratio * g[i]
            if size > 0:
                moved += real(by_r * (float(y[i] - layer[i]) / size))
            sums[i] += g[i] - moved
            g[i] = moved
    sums[features] += real(by_alpha * by_a)
    sums[features + 1] += real(by_s * by_b)
