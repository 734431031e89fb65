"""Chains of Householder reflections, values and gradients by hand; `flowvi.kernels.reference` is the definition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

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
        parameters[0].numel() // features,
        features,
        INVERSE=bool(options[0]),
        LEAST=torch.finfo(z.dtype).tiny,
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
    tile = tiles(z)
    grad_z = torch.empty_like(z)
    sums = z.new_empty(tile.chunks, *parameters.shape)
    _gradient[(rows * tile.chunks,)](
        grad_out,
        z,
        parameters,
        grad_z,
        sums,
        points,
        rows,
        parameters[0].numel() // features,
        features,
        tile.chunks,
        INVERSE=bool(options[0]),
        LEAST=torch.finfo(z.dtype).tiny,
        BLOCK_N=tile.points,
        BLOCK_D=tile.features,
        num_warps=tile.warps,
    )
    return grad_z, sums[0] if tile.chunks == 1 else sums.sum(0)


@triton.jit(do_not_specialize=COUNTS)
def _run(
    z_at,
    vectors_at,
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
    spot, offsets, there, mask = place(program // rows, row, points, rows, features, BLOCK_N, BLOCK_D)
    z = tl.load(z_at + offsets, mask=mask, other=0.0)
    z = _reflected(z, vectors_at + row * length * features, length, features, INVERSE, LEAST, BLOCK_D)
    tl.store(out_at + offsets, z, mask=mask)
    tl.store(log_det_at + spot, tl.zeros([BLOCK_N], z_at.dtype.element_ty), mask=there)


@triton.jit
def _unit(vectors_at, k, features, LEAST: tl.constexpr, BLOCK_D: tl.constexpr):
    """v̂ and 1/‖v‖, both 0 where there is no v; scaled first, so that no square leaves the range of the dtype."""
    i = tl.arange(0, BLOCK_D)
    v = tl.load(vectors_at + k * features + i, mask=i < features, other=0.0)
    scale = tl.max(tl.abs(v), 0)
    moves = scale >= LEAST
    scale = tl.where(moves, scale, 1.0)
    v = v / scale
    inverse = tl.where(moves, 1 / tl.sqrt(tl.where(moves, tl.sum(v * v, 0), 1.0)), 0.0)
    return v * inverse, inverse / scale


@triton.jit
def _reflected(z, vectors_at, length, features, INVERSE: tl.constexpr, LEAST: tl.constexpr, BLOCK_D: tl.constexpr):
    following = _unit(vectors_at, turn(0, length, INVERSE), features, LEAST, BLOCK_D)
    for step in range(length):
        direction, _ = following
        # the next vector is made while this one is at work
        following = _unit(vectors_at, turn(step + 1, length, INVERSE), features, LEAST, BLOCK_D)
        along = tl.sum(z * direction[None, :], 1)
        z -= (2 * along)[:, None] * direction[None, :]
    return z


@triton.jit(do_not_specialize=COUNTS)
def _gradient(
    grad_out_at,
    z_at,
    vectors_at,
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
    """With p = v̂ᵀz, z′ = z − 2p·v̂ has, for the gradient g by it, −2((v̂ᵀg)z + p·g) by v̂.

    The points before each reflection are those after it, reflected: nothing need be kept.
    """
    program = tl.program_id(0).to(tl.int64)
    row = program % rows
    vectors_at += row * length * features
    sums_at += program * length * features
    i = tl.arange(0, BLOCK_D)
    inside = i < features
    first, last = share(program // rows, chunks, points, BLOCK_N)
    for block in range(first, last):
        _, offsets, _, mask = place(block, row, points, rows, features, BLOCK_N, BLOCK_D)
        z = tl.load(z_at + offsets, mask=mask, other=0.0)
        z = _reflected(z, vectors_at, length, features, INVERSE, LEAST, BLOCK_D)
        g = tl.load(grad_out_at + offsets, mask=mask, other=0.0)
        following = _unit(vectors_at, turn(0, length, not INVERSE), features, LEAST, BLOCK_D)
        for step in range(length):
            k = turn(step, length, not INVERSE)
            direction, inverse = following
            following = _unit(vectors_at, turn(step + 1, length, not INVERSE), features, LEAST, BLOCK_D)
            p = -tl.sum(z * direction[None, :], 1)[:, None]
            q = tl.sum(g * direction[None, :], 1)[:, None]
            z += 2 * p * direction[None, :]
            by_direction = -2 * tl.sum(q * z + p * g, 0)
            g -= 2 * q * direction[None, :]
            along = tl.sum(direction * by_direction, 0)
            by_vector = (by_direction - along * direction) * inverse
            accumulate(sums_at + k * features + i, by_vector, inside, block > first)
        tl.store(grad_z_at + offsets, g, mask=mask)
        # what others of the program's threads stored is read in the next round
        tl.debug_barrier()
