"""The fused chains on a CPU, by numba: `run` and `gradient` of every family, on torch's tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flowvi.kernels.cpu import bernoulli, householder, maxout, planar, planar_score, radial, rmsprop
from flowvi.kernels.cpu.team import launch
from flowvi.kernels.cpu.tiles import TILE

__all__ = ["gradient", "on_rows", "push_score", "run", "update"]

_FAMILIES = {"planar": planar, "radial": radial, "householder": householder}
_MANY = 8  # points of one row for which a tile, even if there is one thread's work alone, is worth it
_ITEMS = 32  # an item of work is a row of parameters with one of `chunks` shares of its points


def run(
    z: Tensor,
    parameters: Tensor,
    out: Tensor,
    log_det: Tensor,
    saved: Tensor,
    table: Tensor,
    family: str,
    options: Sequence[int],
) -> None:
    """The operator `flowvi::chain`, on contiguous tensors: fills `out`, `log_det`, `saved` and `table`."""
    module, chunks = _FAMILIES[family], _chunks(z)
    body = module.run
    if len(z) >= _MANY and hasattr(module, "run_many"):
        body, chunks = module.run_many, min(chunks, -(-len(z) // TILE))
    _launch(body, options, [z, parameters, out, log_det[..., None], saved, table], chunks)


def gradient(
    grad_out: Tensor,
    grad_log_det: Tensor,
    z: Tensor,
    parameters: Tensor,
    saved: Tensor,
    table: Tensor,
    family: str,
    options: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """The operator `flowvi::chain_gradient`. Sums over points have one order, however many threads there are."""
    chunks = _chunks(z)
    grad_z = torch.empty_like(z)
    sums = z.new_empty(chunks * len(parameters), *parameters.shape[1:])
    arrays = [z, parameters, saved, grad_out, grad_log_det[..., None], grad_z, sums, table]
    _launch(_FAMILIES[family].gradient, options, arrays, chunks)
    return grad_z, sums if chunks == 1 else sums.unflatten(0, (chunks, -1)).sum(0)


def push_score(
    z: Tensor, slope: Tensor, parameters: Tensor, out: Tensor, out_slope: Tensor, options: Sequence[int]
) -> None:
    """Fills `out` and `out_slope`, (N, R, D), by planar layers (R, K, 2D + 1)."""
    work = parameters.numel() + z.numel() * parameters.shape[1]
    chunks = _chunks(z)
    launch(
        planar_score.run(z.dtype),
        chunks * z.shape[1],
        chunks,
        options,
        [z, slope, parameters, out, out_slope],
        work,
    )


def on_rows(module: str, name: str, tensors: list[Tensor]) -> None:
    """A kernel that is no chain, on contiguous tensors (rows, …, …); the first says how many rows."""
    body: Callable[[torch.dtype], int] = getattr({"maxout": maxout, "bernoulli": bernoulli}[module], name)
    work = max(each.numel() for each in tensors)
    launch(body(tensors[0].dtype), len(tensors[0]), 1, (0, 0, 0), tensors, work)


def update(tensors: list[Tensor], rates: Sequence[float]) -> None:
    """A step of RMSprop on flat tensors, (1, 1, n)."""
    size = tensors[0].numel()
    chunks = min(size, _ITEMS)
    arrays = [*tensors, torch.tensor([[rates]], dtype=torch.float64)]
    launch(rmsprop.update(tensors[0].dtype), chunks, chunks, (0, 0, 0), arrays, 4 * size)


def _chunks(z: Tensor) -> int:
    points, rows, _ = z.shape
    return min(points, -(-_ITEMS // rows))


def _launch(kernel: Callable[[torch.dtype], int], options: Sequence[int], tensors: list[Tensor], chunks: int) -> None:
    z, parameters = tensors[:2]
    work = parameters.numel() + z.numel() * parameters.shape[1]
    launch(kernel(z.dtype), chunks * z.shape[1], chunks, options, tensors, work)
