"""The fused chains on a CPU, by numba: `run` and `gradient` of every family, on torch's tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flowvi.kernels.cpu import bernoulli, householder, maxout, planar, radial, rmsprop
from flowvi.kernels.cpu.team import launch
from flowvi.kernels.cpu.tiles import TILE

__all__ = ["gradient", "on_rows", "run", "update"]

_FAMILIES = {"planar": planar, "radial": radial, "householder": householder}
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
    chunks = min(_chunks(z), max(1, len(z) // TILE)) if len(z) >= TILE // 2 else _chunks(z)  # tiles want many points
    _launch(_FAMILIES[family].run, options, [z, parameters, out, log_det[..., None], saved, table], chunks)


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


def on_rows(module: str, name: str, tensors: list[Tensor]) -> None:
    """A kernel that is no chain, on contiguous tensors (rows, …, …); the first says how many rows."""
    body: Callable[[torch.dtype], int] = getattr({"maxout": maxout, "bernoulli": bernoulli}[module], name)
    work = max(each.numel() for each in tensors)
    launch(body(tensors[0].dtype), len(tensors[0]), 1, (0, 0, 0), [each.numpy() for each in tensors], work)


def update(tensors: list[Tensor], rates: Sequence[float]) -> None:
    """A step of RMSprop on flat tensors, (1, 1, n)."""
    size = tensors[0].numel()
    chunks = min(size, _ITEMS)
    arrays = [each.numpy() for each in (*tensors, torch.tensor([[rates]], dtype=torch.float64))]
    launch(rmsprop.update(tensors[0].dtype), chunks, chunks, (0, 0, 0), arrays, 4 * size)


def _chunks(z: Tensor) -> int:
    points, rows, _ = z.shape
    return min(points, -(-_ITEMS // rows))


def _launch(kernel: Callable[[torch.dtype], int], options: Sequence[int], tensors: list[Tensor], chunks: int) -> None:
    z, parameters = tensors[:2]
    work = parameters.numel() + z.numel() * parameters.shape[1]
    launch(kernel(z.dtype), chunks * z.shape[1], chunks, options, [each.numpy() for each in tensors], work)
