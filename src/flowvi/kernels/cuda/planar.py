"""Chains of planar layers: values, and gradients by hand. `flowvi.kernels.reference` is the definition.

For each layer of a row, `table` (R, K, 6) holds 1/‖w‖, x = wᵀu, γ = (m(x) − x)/‖w‖, m′(x) − 1, s = 1 + wᵀû and
d ln s/dx, so that û = u + γ·w/‖w‖; `saved` (N, R, K) keeps a = wᵀz + b. Numbers of a layer and a point are of the
points' dtype, but backwards of float64, in which the root is found.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowvi.kernels.cuda.planar_layer import activation, determinant, log_determinant, root, through
from flowvi.kernels.cuda.planar_table import WIDTH, constrain, row_of, slack_of, unconstrain
from flowvi.kernels.cuda.tiles import COUNTS, accumulate, place, share, tiles, turn

__all__ = ["gradient", "run"]

_LAYERS = 32  # of which a program makes the table, where a row has several


def run(
    z: Tensor,
    parameters: Tensor,
    out: Tensor,
    log_det: Tensor,
    saved: Tensor,
    table: Tensor,
    options: Sequence[int],
) -> None:
    """Fill `out` and `log_det`, and `saved` and `table` where they have entries."""
    points, rows, features = z.shape
    length = parameters.shape[1]
    inverse, centred, leaky = map(bool, options)
    keep = len(saved) > 0
    if not keep:
        table = z.new_empty(rows, length, WIDTH.value)
    tile = tiles(z)
    least = torch.finfo(z.dtype).tiny
    if tile.blocks > 1:
        _tabulate[(rows, triton.cdiv(length, _LAYERS))](
            parameters, table, length, features, CENTRED=centred, LEAST=least, LAYERS=_LAYERS, BLOCK_D=tile.features
        )
    _run[(rows * tile.blocks,)](
        z,
        parameters,
        out,
        log_det,
        saved,
        table,
        points,
        rows,
        length,
        features,
        INVERSE=inverse,
        CENTRED=centred,
        LEAKY=leaky,
        KEEP=keep,
        ALONE=tile.blocks == 1,
        LEAST=least,
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
    inverse, centred, leaky = map(bool, options)
    tile = tiles(z)
    grad_z = torch.empty_like(z)
    sums = z.new_empty(tile.chunks, *parameters.shape)
    way = z.new_empty(tile.chunks, rows, length, tile.points, features)
    _gradient[(rows * tile.chunks,)](
        grad_out,
        grad_log_det,
        z,
        parameters,
        saved,
        table,
        way,
        grad_z,
        sums,
        points,
        rows,
        length,
        features,
        tile.chunks,
        INVERSE=inverse,
        CENTRED=centred,
        LEAKY=leaky,
        BLOCK_N=tile.points,
        BLOCK_D=tile.features,
        num_warps=tile.warps,
    )
    return grad_z, sums[0] if tile.chunks == 1 else sums.sum(0)


@triton.jit(do_not_specialize=COUNTS)
def _tabulate(
    layers_at,
    table_at,
    length,
    features,
    CENTRED: tl.constexpr,
    LEAST: tl.constexpr,
    LAYERS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * LAYERS
    last = tl.minimum(first + LAYERS, length)
    layers_at += row * length * (2 * features + 1)
    constrain(layers_at, table_at + row * length * WIDTH, first, last, features, CENTRED, LEAST, BLOCK_D)


@triton.jit
def _layer(layers_at, table_at, k, features, BLOCK_D: tl.constexpr):
    """Layer k's w, u and b, and its row of the table."""
    i = tl.arange(0, BLOCK_D)
    at = layers_at + k * (2 * features + 1)
    w = tl.load(at + i, mask=i < features, other=0.0)
    u = tl.load(at + features + i, mask=i < features, other=0.0)
    return w, u, tl.load(at + 2 * features), row_of(table_at, k)


@triton.jit(do_not_specialize=COUNTS)
def _run(
    z_at,
    layers_at,
    out_at,
    log_det_at,
    saved_at,
    table_at,
    points,
    rows,
    length,
    features,
    INVERSE: tl.constexpr,
    CENTRED: tl.constexpr,
    LEAKY: tl.constexpr,
    KEEP: tl.constexpr,
    ALONE: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    real: tl.constexpr = z_at.dtype.element_ty
    wide: tl.constexpr = tl.float64 if INVERSE else real
    program = tl.program_id(0).to(tl.int64)
    row = program % rows
    layers_at += row * length * (2 * features + 1)
    table_at += row * length * WIDTH
    if ALONE:
        constrain(layers_at, table_at, 0, length, features, CENTRED, LEAST, BLOCK_D)
    spot, offsets, there, mask = place(program // rows, row, points, rows, features, BLOCK_N, BLOCK_D)
    z = tl.load(z_at + offsets, mask=mask, other=0.0)
    total = tl.zeros([BLOCK_N], wide)
    following = _layer(layers_at, table_at, turn(0, length, INVERSE), features, BLOCK_D)
    for step in range(length):
        w, u, b, entries = following
        inverse_norm, x, gamma, _, s, _ = entries
        # the next layer is on its way while this one is at work
        following = _layer(layers_at, table_at, turn(step + 1, length, INVERSE), features, BLOCK_D)
        x, slack = x.to(wide), s.to(wide)
        a = tl.sum(z * w[None, :], 1).to(wide) + b.to(wide)
        if INVERSE:
            slack = slack_of(x, slack, CENTRED)
            a = root(a, slack, LEAKY).to(real).to(wide)
        h, slope = activation(a, LEAKY)
        change = (-h if INVERSE else h).to(real)
        z += change[:, None] * (u + gamma * (w * inverse_norm))[None, :]
        det = determinant(a, h, slope, slack, LEAKY)
        total += log_determinant(det, h, slope, x, slack, CENTRED, LEAKY)
        if KEEP:
            tl.store(saved_at + spot * length + turn(step, length, INVERSE), a.to(real), mask=there)
    tl.store(out_at + offsets, z, mask=mask)
    tl.store(log_det_at + spot, total.to(real), mask=there)


@triton.jit
def _walk(
    z,
    saved_at,
    layers_at,
    table_at,
    way_at,
    there,
    mask,
    length,
    features,
    INVERSE: tl.constexpr,
    LEAKY: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write down the points before each layer."""
    real: tl.constexpr = z.dtype
    following = _layer(layers_at, table_at, turn(0, length, INVERSE), features, BLOCK_D)
    for step in range(length):
        k = turn(step, length, INVERSE)
        w, u, _, entries = following
        inverse_norm, _, gamma, _, _, _ = entries
        following = _layer(layers_at, table_at, turn(step + 1, length, INVERSE), features, BLOCK_D)
        tl.store(way_at + k * BLOCK_N * features, z, mask=mask)
        h, _ = activation(tl.load(saved_at + k, mask=there, other=0.0), LEAKY)
        change = (-h if INVERSE else h).to(real)
        z += change[:, None] * (u + gamma * (w * inverse_norm))[None, :]


@triton.jit(do_not_specialize=COUNTS)
def _gradient(
    grad_out_at,
    grad_log_det_at,
    z_at,
    layers_at,
    saved_at,
    table_at,
    way_at,
    grad_z_at,
    sums_at,
    points,
    rows,
    length,
    features,
    chunks,
    INVERSE: tl.constexpr,
    CENTRED: tl.constexpr,
    LEAKY: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    row = program % rows
    layers_at += row * length * (2 * features + 1)
    table_at += row * length * WIDTH
    sums_at += program * length * (2 * features + 1)
    in_tile = tl.arange(0, BLOCK_N)[:, None] * features + tl.arange(0, BLOCK_D)[None, :]
    way_at += program * length * BLOCK_N * features + in_tile
    first, last = share(program // rows, chunks, points, BLOCK_N)
    for block in range(first, last):
        spot, offsets, there, mask = place(block, row, points, rows, features, BLOCK_N, BLOCK_D)
        saved = saved_at + spot * length
        z = tl.load(z_at + offsets, mask=mask, other=0.0)
        _walk(z, saved, layers_at, table_at, way_at, there, mask, length, features, INVERSE, LEAKY, BLOCK_N, BLOCK_D)
        # what one of the program's threads stored, others read
        tl.debug_barrier()
        g = tl.load(grad_out_at + offsets, mask=mask, other=0.0)
        by_log_det = tl.load(grad_log_det_at + spot, mask=there, other=0.0)
        g = _back(
            g,
            by_log_det,
            saved,
            layers_at,
            table_at,
            way_at,
            sums_at,
            there,
            mask,
            block > first,
            length,
            features,
            INVERSE,
            CENTRED,
            LEAKY,
            BLOCK_N,
            BLOCK_D,
        )
        tl.store(grad_z_at + offsets, g, mask=mask)
        tl.debug_barrier()


@triton.jit
def _back(
    g,
    by_log_det,
    saved_at,
    layers_at,
    table_at,
    way_at,
    sums_at,
    there,
    mask,
    again,
    length,
    features,
    INVERSE: tl.constexpr,
    CENTRED: tl.constexpr,
    LEAKY: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """From the last layer applied to the first: g is the gradient by the points after each, then before it."""
    real: tl.constexpr = g.dtype
    wide: tl.constexpr = tl.float64 if INVERSE else real
    i = tl.arange(0, BLOCK_D)
    inside = i < features
    following = _layer(layers_at, table_at, turn(0, length, not INVERSE), features, BLOCK_D)
    for step in range(length):
        k = turn(step, length, not INVERSE)
        w, u, _, entries = following
        inverse_norm, x, gamma, change, s, rate = entries
        following = _layer(layers_at, table_at, turn(step + 1, length, not INVERSE), features, BLOCK_D)
        direction = w * inverse_norm
        a = tl.load(saved_at + k, mask=there, other=0.0).to(wide)
        z = tl.load(way_at + k * BLOCK_N * features, mask=mask, other=0.0)
        by_step = tl.sum(g * (u + gamma * direction)[None, :], 1)
        by_a, by_slack, height = through(
            a, x.to(wide), s.to(wide), by_log_det.to(wide), by_step.to(wide), INVERSE, CENTRED, LEAKY
        )
        along = by_a.to(real)
        by_w, by_u = tl.sum(along[:, None] * z, 0), tl.sum(height.to(real)[:, None] * g, 0)
        g += along[:, None] * w[None, :]
        slack_part = tl.sum(by_slack.to(real), 0) * rate
        by_w, by_u = unconstrain(by_w, by_u, slack_part, w, u, direction, inverse_norm, gamma, change)
        at = sums_at + k * (2 * features + 1)
        accumulate(at + i, by_w, inside, again)
        accumulate(at + features + i, by_u, inside, again)
        accumulate(at + 2 * features, tl.sum(along, 0), True, again)
    return g
