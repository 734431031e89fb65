"""Chains of radial layers: values, and gradients by hand. `flowvi.kernels.reference` is the definition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowvi.kernels.cuda.scalars import log1p, softplus
from flowvi.kernels.cuda.tiles import COUNTS, accumulate, place, share, tiles, turn

__all__ = ["gradient", "run"]


def run(
    z: Tensor,
    parameters: Tensor,
    out: Tensor,
    log_det: Tensor,
    saved: Tensor,
    table: Tensor,
    options: Sequence[int],
) -> None:
    """Fill `out` and `log_det`; there is nothing to keep."""
    points, rows, features = z.shape
    tile = tiles(z)
    _run[(rows * tile.blocks,)](
        z,
        parameters,
        out,
        log_det,
        points,
        rows,
        parameters.shape[1],
        features,
        INVERSE=bool(options[0]),
        LEAST=torch.finfo(z.dtype).tiny ** (1 / 3),
        BLOCK_N=tile.points,
        BLOCK_D=tile.features,
        num_warps=tile.warps,
    )


def gradient(
    grad_out: Tensor,
    grad_log_det: Tensor,
    z: Tensor,
    parameters: Tensor,
    saved: Tensor,
    table: Tensor,
    options: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """The gradients by z and by the parameters."""
    points, rows, features = z.shape
    length = parameters.shape[1]
    tile = tiles(z)
    grad_z = torch.empty_like(z)
    sums = z.new_empty(tile.chunks, *parameters.shape)
    way = z.new_empty(tile.chunks, rows, length, tile.points, features)
    _gradient[(rows * tile.chunks,)](
        grad_out,
        grad_log_det,
        z,
        parameters,
        way,
        grad_z,
        sums,
        points,
        rows,
        length,
        features,
        tile.chunks,
        INVERSE=bool(options[0]),
        LEAST=torch.finfo(z.dtype).tiny ** (1 / 3),
        BLOCK_N=tile.points,
        BLOCK_D=tile.features,
        num_warps=tile.warps,
    )
    return grad_z, sums[0] if tile.chunks == 1 else sums.sum(0)


@triton.jit
def _layer(layers_at, k, features, LEAST: tl.constexpr, BLOCK_D: tl.constexpr):
    """A layer's z_ref, α and s, and the slopes of the last two by what they are made of."""
    i = tl.arange(0, BLOCK_D)
    at = layers_at + k * (features + 2)
    alpha, by_a = _positive(tl.load(at + features), LEAST)
    s, by_beta = _positive(tl.load(at + features + 1), LEAST)
    return tl.load(at + i, mask=i < features, other=0.0), alpha, s, by_a, by_beta


@triton.jit
def _positive(raw, LEAST: tl.constexpr):
    value, slope = softplus(raw)
    enough = value >= LEAST
    return tl.where(enough, value, LEAST), tl.where(enough, slope, 0.0)


@triton.jit
def _inner(size, alpha, s):
    """The r ≥ 0 with r(r + s)/(α + r) = size, without a cancellation."""
    half, product = (size - s) / 2, alpha * size
    root = tl.sqrt(half * half + product)
    return tl.where(half > 0, half + root, product / tl.where(half > 0, 1.0, root - half))


@triton.jit
def _moved(z, reference, offset, near, far):
    """z_ref + (far/near)·offset, (N, 1) each; as z and a change of it, unless that would cancel."""
    change = (far - near) / near
    return tl.where(change > -0.5, z + change * offset, reference + (far / near) * offset)


@triton.jit
def _log_det(r, alpha, s, features):
    """(D − 1)·ln((r + s)/(α + r)) + ln((r² + 2αr + αs)/(α + r)²), as in the reference."""
    q, rest, ratio = r / (alpha + r), alpha / (alpha + r), s / (alpha + r)
    change = (s - alpha) / (alpha + r)
    along = _log_ratio(change * rest, q * (2 - q) + rest * ratio)
    return (features - 1) * _log_ratio(change, q + ratio) + along


@triton.jit
def _log_ratio(change, ratio):
    near = change > -0.5
    return tl.where(near, log1p(tl.where(near, change, 0.0)), tl.log(tl.where(near, 1.0, ratio)))


@triton.jit
def _step(z, reference, alpha, s, INVERSE: tl.constexpr):
    """The points after a layer, and r, (N, 1)."""
    offset = z - reference[None, :]
    r = tl.sqrt(tl.sum(offset * offset, 1))[:, None]
    if INVERSE:
        r = _inner(r, alpha, s)
        z = _moved(z, reference[None, :], offset, r + s, r + alpha)
    else:
        z = _moved(z, reference[None, :], offset, r + alpha, r + s)
    return z, r


@triton.jit(do_not_specialize=COUNTS)
def _run(
    z_at,
    layers_at,
    out_at,
    log_det_at,
    points,
    rows,
    length,
    features,
    INVERSE: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    row = program % rows
    layers_at += row * length * (features + 2)
    spot, offsets, there, mask = place(program // rows, row, points, rows, features, BLOCK_N, BLOCK_D)
    z = tl.load(z_at + offsets, mask=mask, other=0.0)
    total = tl.zeros([BLOCK_N, 1], z.dtype)
    following = _layer(layers_at, turn(0, length, INVERSE), features, LEAST, BLOCK_D)
    for step in range(length):
        reference, alpha, s, _, _ = following
        # the next layer is made while this one is at work
        following = _layer(layers_at, turn(step + 1, length, INVERSE), features, LEAST, BLOCK_D)
        z, r = _step(z, reference, alpha, s, INVERSE)
        total += _log_det(r, alpha, s, features)
    tl.store(out_at + offsets, z, mask=mask)
    tl.store(log_det_at + spot[:, None], total, mask=there[:, None])


@triton.jit
def _walk(
    z,
    layers_at,
    way_at,
    mask,
    length,
    features,
    INVERSE: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write down the points before each layer."""
    following = _layer(layers_at, turn(0, length, INVERSE), features, LEAST, BLOCK_D)
    for step in range(length):
        reference, alpha, s, _, _ = following
        following = _layer(layers_at, turn(step + 1, length, INVERSE), features, LEAST, BLOCK_D)
        tl.store(way_at + turn(step, length, INVERSE) * BLOCK_N * features, z, mask=mask)
        z, _ = _step(z, reference, alpha, s, INVERSE)


@triton.jit(do_not_specialize=COUNTS)
def _gradient(
    grad_out_at,
    grad_log_det_at,
    z_at,
    layers_at,
    way_at,
    grad_z_at,
    sums_at,
    points,
    rows,
    length,
    features,
    chunks,
    INVERSE: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    row = program % rows
    layers_at += row * length * (features + 2)
    sums_at += program * length * (features + 2)
    in_tile = tl.arange(0, BLOCK_N)[:, None] * features + tl.arange(0, BLOCK_D)[None, :]
    way_at += program * length * BLOCK_N * features + in_tile
    first, last = share(program // rows, chunks, points, BLOCK_N)
    for block in range(first, last):
        spot, offsets, there, mask = place(block, row, points, rows, features, BLOCK_N, BLOCK_D)
        z = tl.load(z_at + offsets, mask=mask, other=0.0)
        _walk(z, layers_at, way_at, mask, length, features, INVERSE, LEAST, BLOCK_N, BLOCK_D)
        # what one of the program's threads stored, others read
        tl.debug_barrier()
        g = tl.load(grad_out_at + offsets, mask=mask, other=0.0)
        by_log_det = tl.load(grad_log_det_at + spot, mask=there, other=0.0)[:, None]
        again = block > first
        g = _back(
            g, by_log_det, layers_at, way_at, sums_at, mask, again, length, features, INVERSE, LEAST, BLOCK_N, BLOCK_D
        )
        tl.store(grad_z_at + offsets, g, mask=mask)
        tl.debug_barrier()


@triton.jit
def _back(
    g,
    by_log_det,
    layers_at,
    way_at,
    sums_at,
    mask,
    again,
    length,
    features,
    INVERSE: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """From the last layer applied to the first: g is the gradient by the points after each, then before it."""
    i = tl.arange(0, BLOCK_D)
    inside = i < features
    following = _layer(layers_at, turn(0, length, not INVERSE), features, LEAST, BLOCK_D)
    for step in range(length):
        k = turn(step, length, not INVERSE)
        reference, alpha, s, slope_a, slope_beta = following
        following = _layer(layers_at, turn(step + 1, length, not INVERSE), features, LEAST, BLOCK_D)
        # lanes without a feature hold 0
        offset = tl.load(way_at + k * BLOCK_N * features, mask=mask, other=0.0)
        offset = tl.where(mask, offset - reference[None, :], 0.0)
        size = tl.sqrt(tl.sum(offset * offset, 1))[:, None]
        along = tl.sum(g * offset, 1)[:, None]
        factor, by_size, by_alpha, by_s = _through(size, along, by_log_det, alpha, s, features, INVERSE)
        pull = by_size * tl.where(size > 0, offset / tl.where(size > 0, size, 1.0), 0.0)
        by_reference = (1 - factor) * g - pull
        g = factor * g + pull
        at = sums_at + k * (features + 2)
        accumulate(at + i, tl.sum(by_reference, 0), inside, again)
        accumulate(at + features, tl.sum(tl.sum(by_alpha, 1), 0) * slope_a, True, again)
        accumulate(at + features + 1, tl.sum(tl.sum(by_s, 1), 0) * slope_beta, True, again)
    return g


@triton.jit
def _through(size, along, by_log_det, alpha, s, features, INVERSE: tl.constexpr):
    """For an offset o from z_ref, by which the layer has the factor f(‖o‖, α, s)·o: f, and gradients by ‖o‖, α and s.

    Forward r = ‖o‖ and f = (r + s)/(α + r); backwards f is its inverse, and r a function of ‖o‖, α and s.
    """
    r = _inner(size, alpha, s) if INVERSE else size
    near, far = alpha + r, r + s
    by_r, by_alpha, by_s = _by_log_det(r, alpha, s, near, far, features)
    if INVERSE:
        factor = near / far
        # along is the gradient by the factor
        by_r = by_log_det * by_r + along / far * ((s - alpha) / far)
        along = along / far
        square = _square(r, alpha, s, near)
        by_alpha = by_log_det * by_alpha + along + by_r * (size / near / square)
        by_s = by_log_det * by_s - along * factor - by_r * (r / near / square)
        by_size = by_r / square
    else:
        factor = far / near
        along = along / near
        by_size = by_log_det * by_r + along * ((alpha - s) / near)
        by_alpha = by_log_det * by_alpha - along * factor
        by_s = by_log_det * by_s + along
    return factor, by_size, by_alpha, by_s


@triton.jit
def _square(r, alpha, s, near):
    """(r² + 2αr + αs)/(α + r)², dR/dr, from positive terms."""
    q, rest = r / near, alpha / near
    return q * (2 - q) + rest * (s / near)


@triton.jit
def _by_log_det(r, alpha, s, near, far, features):
    """The log-determinant's derivatives by r, α and s: of (D − 1)·ln((r + s)/(α + r)), and of ln dR/dr."""
    others = features - 1
    square = _square(r, alpha, s, near)
    rest, change = alpha / near, (alpha - s) / near
    by_r = others * ((alpha - s) / far) / near + 2 * rest * (change / square) / near
    by_alpha = -others / near + (s / near * (r / near) - rest * (2 * r / near + s / near)) / square / near
    return by_r, by_alpha, others / far + rest / square / near
