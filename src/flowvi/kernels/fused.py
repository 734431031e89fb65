"""A fused chain as one operator of torch: for autograd, to any order, and for `torch.compile`.

`flowvi::chain` takes points (N, R, D), N of them for each of R rows of parameters (R, K, P), and three numbers: whether
backwards, and two of the family's own. Beside the image and the log-determinant, (N, R), it gives what the gradient
needs: for planar layers `saved`, (N, R, K), a = wᵀz + b of each, and `table`, (R, K, 6), of what depends on the
parameters alone; both without entries unless they are to be kept. The modules `flowvi.kernels.cpu` and
`flowvi.kernels.cuda` hold the functions behind the two operators: `run`, which fills what it is given, and `gradient`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor

from flowvi.kernels import reference
from flowvi.kernels.choice import fuses

__all__ = ["chain", "empty"]

_WIDTHS = {"planar": 6, "radial": 0, "householder": 0}  # of the table

torch.library.define(
    "flowvi::chain",
    "(Tensor z, Tensor parameters, str family, int[] options, bool keep) -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "flowvi::chain_gradient",
    "(Tensor grad_out, Tensor grad_log_det, Tensor z, Tensor parameters, Tensor saved, Tensor table, str family, "
    "int[] options) -> (Tensor, Tensor)",
)


def chain(
    family: str, z: Tensor, parameters: Tensor, options: tuple[bool, bool, bool] = (False, False, False)
) -> tuple[Tensor, Tensor]:
    """z (S, batch, D) through a chain with parameters (batch or 1, K, P): the image and the log-determinant."""
    if not parameters.shape[1]:
        return z, z.new_zeros(z.shape[:-1])
    parameters = parameters.to(z.dtype)  # a network's may come in bfloat16
    if not fuses(z, parameters):
        return _reference(z, parameters, family, options)
    rows = len(parameters)
    points = z.contiguous().view(-1, rows, z.shape[-1])  # one row serves all points
    out, log_det = _apply(points, parameters.contiguous(), family, [int(option) for option in options])
    return out.view(z.shape), log_det.view(z.shape[:-1])


def empty(z: Tensor, parameters: Tensor, family: str, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `flowvi::chain` gives, to be filled. On a CPU the table is of float64."""
    points, rows, _ = z.shape
    length, width = parameters.shape[1], _WIDTHS[family]
    saved = z.new_empty(points if keep else 0, rows, length if width else 0)
    wide = torch.float64 if z.device.type == "cpu" else z.dtype
    table = z.new_empty(rows if keep else 0, length, width, dtype=wide)
    return torch.empty_like(z), z.new_empty(points, rows), saved, table


def _reference(z: Tensor, parameters: Tensor, family: str, options: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The same by the definition."""
    inverse, first, second = options
    words: tuple[str, ...] = ()
    if family == "planar":
        words = ("centred" if first else "paper", "leaky_relu" if second else "tanh")
    function: Callable[..., tuple[Tensor, Tensor]] = getattr(
        reference, f"{family}_inverse" if inverse else f"{family}_forward"
    )
    return function(z, parameters, *words)


def _register(device: str) -> None:
    """The device's module is imported on first use only."""

    @torch.library.impl("flowvi::chain", device)
    def run(z: Tensor, parameters: Tensor, family: str, options: Sequence[int], keep: bool) -> tuple[Tensor, ...]:
        results = empty(z, parameters, family, keep)
        import_module(f"flowvi.kernels.{device}").run(z, parameters, *results, family, options)
        return results

    @torch.library.impl("flowvi::chain_gradient", device)
    def gradient(*arguments: Any) -> tuple[Tensor, Tensor]:
        return cast(tuple[Tensor, Tensor], import_module(f"flowvi.kernels.{device}").gradient(*arguments))


for _device in ("cpu", "cuda"):
    _register(_device)


@torch.library.register_fake("flowvi::chain")  # type: ignore[untyped-decorator]
def _(z: Tensor, parameters: Tensor, family: str, options: Sequence[int], keep: bool) -> tuple[Tensor, ...]:
    return empty(z, parameters, family, keep)


@torch.library.register_fake("flowvi::chain_gradient")  # type: ignore[untyped-decorator]
def _(grad_out: Tensor, grad_log_det: Tensor, z: Tensor, parameters: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(z), torch.empty_like(parameters)


def _differentiate(
    z: Tensor, parameters: Tensor, family: str, options: list[int], weights: tuple[Tensor, Tensor]
) -> tuple[Tensor | None, ...]:
    """The gradients by the definition, which can be differentiated again."""
    inputs = [each for each in (z, parameters) if each.requires_grad]
    # a rotation's log-determinant depends on nothing
    pairs = zip(_reference(z, parameters, family, options), weights, strict=True)
    outputs, given = zip(*((out, weight) for out, weight in pairs if out.requires_grad), strict=True)
    found = iter(torch.autograd.grad(outputs, inputs, given, create_graph=True, materialize_grads=True))
    return tuple(next(found) if each.requires_grad else None for each in (z, parameters))


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, parameters: Tensor, family: str, options: list[int]) -> tuple[Tensor, Tensor]:
        keep = any(ctx.needs_input_grad)
        out, log_det, saved, table = torch.ops.flowvi.chain(z, parameters, family, options, keep)
        ctx.save_for_backward(z, parameters, saved, table)
        ctx.family, ctx.options = family, options
        return out, log_det

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, grad_log_det: Tensor) -> tuple[Any, ...]:
        z, parameters, saved, table = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # a gradient of the gradient is wanted
            grads = _differentiate(z, parameters, ctx.family, ctx.options, (grad_out, grad_log_det))
        else:
            # expanded ones, such as a sum's, have no memory of their own
            given = grad_out.contiguous(), grad_log_det.contiguous(), z, parameters, saved, table
            grads = torch.ops.flowvi.chain_gradient(*given, ctx.family, ctx.options)
        return *grads, None, None


_apply = cast(Callable[..., tuple[Tensor, Tensor]], _Chain.apply)
