"""How points are shared out: a program takes a tile of points of one row of parameters, or several tiles in turn."""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

__all__ = ["COUNTS", "Tiles", "accumulate", "place", "share", "tiles", "turn"]

COUNTS = ["points", "rows", "length", "chunks"]  # for which no kernel is compiled anew
FEW = 2048  # points in all, up to which each has a program to itself
PROGRAMS = 512  # with partial sums of their own


@dataclass(frozen=True)
class Tiles:
    """A tile is (points, features), powers of two; `chunks` programs share a row's tiles where they sum over points."""

    points: int
    features: int
    warps: int
    blocks: int
    chunks: int


def tiles(z: Tensor) -> Tiles:
    """For points z (N, R, D)."""
    total, rows, features = z.shape
    wide = triton.next_power_of_2(features)
    points = 1 if total * rows <= FEW else min(max(256 // wide, 1), 16, triton.next_power_of_2(total))
    blocks = triton.cdiv(total, points)
    return Tiles(points, wide, max(points * wide // 256, 1), blocks, min(blocks, triton.cdiv(PROGRAMS, rows)))


@triton.jit
def place(block, row, points, rows, features, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr):
    """A block's places among (N, R), its offsets in (N, R, D), and which of both there are."""
    n = block * BLOCK_N + tl.arange(0, BLOCK_N)
    i = tl.arange(0, BLOCK_D)
    there = n < points
    spot = n * rows + row
    return spot, spot[:, None] * features + i[None, :], there, there[:, None] & (i < features)[None, :]


@triton.jit
def share(chunk, chunks, points, BLOCK_N: tl.constexpr):
    """The first block of a chunk, and the one after its last."""
    blocks = tl.cdiv(points, BLOCK_N)
    return chunk * blocks // chunks, (chunk + 1) * blocks // chunks


@triton.jit
def turn(step, length, BACKWARDS: tl.constexpr):
    """The layer at a step of a walk through all; after the last step, that of the last."""
    step = tl.minimum(step, length - 1)
    return length - 1 - step if BACKWARDS else step


@triton.jit
def accumulate(at, value, mask, again):
    """Store, or `again` add to what this program stored."""
    tl.store(at, value + tl.load(at, mask=again & mask, other=0.0), mask=mask)
