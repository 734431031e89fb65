"""Maxout: the largest of each group of units, with a gradient that goes to it alone."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor

from flowvi.kernels.choice import fuses

__all__ = ["maxout"]

torch.library.define("flowvi::maxout", "(Tensor units, Tensor bias) -> (Tensor, Tensor)")
torch.library.define("flowvi::maxout_gradient", "(Tensor grad, Tensor winner, int window) -> Tensor")


def maxout(units: Tensor, bias: Tensor) -> Tensor:
    """(…, window, outputs) plus a bias (window, outputs) -> (…, outputs); of equals the first wins.

    Example:
        >>> maxout(torch.tensor([[1.0, 5.0], [2.0, 4.0]]), bias=torch.zeros(2, 2))
        tensor([2., 5.])
    """
    bias = bias.to(units.dtype)  # which is bfloat16 under autocast
    if not fuses(units, bias) or units.device.type != "cpu":
        units = units + bias
        # max keeps one index an output for the backward pass; amax is faster but splits ties by a mask
        largest: Tensor = units.max(-2).values if units.requires_grad else units.amax(-2)
        return largest
    rows = units.contiguous().view(-1, *bias.shape)
    return _apply(rows, bias.contiguous()).view(*units.shape[:-2], units.shape[-1])


@torch.library.impl("flowvi::maxout", "cpu")
def _run(units: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    largest, winner = (units.new_empty(len(units), units.shape[-1]) for _ in range(2))
    arrays = [units, bias[None], largest[:, None], winner[:, None]]
    import_module("flowvi.kernels.cpu").on_rows("maxout", "run", arrays)
    return largest, winner


@torch.library.impl("flowvi::maxout_gradient", "cpu")
def _gradient(grad: Tensor, winner: Tensor, window: int) -> Tensor:
    by_units = grad.new_empty(len(grad), window, grad.shape[-1])
    arrays = [grad.contiguous()[:, None], winner[:, None], by_units]
    import_module("flowvi.kernels.cpu").on_rows("maxout", "gradient", arrays)
    return by_units


@torch.library.register_fake("flowvi::maxout")  # type: ignore[untyped-decorator]
def _(units: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    largest = units.new_empty(len(units), units.shape[-1])
    return largest, torch.empty_like(largest)


@torch.library.register_fake("flowvi::maxout_gradient")  # type: ignore[untyped-decorator]
def _(grad: Tensor, winner: Tensor, window: int) -> Tensor:
    return grad.new_empty(len(grad), window, grad.shape[-1])


class _Maxout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, units: Tensor, bias: Tensor) -> Tensor:
        largest, winner = torch.ops.flowvi.maxout(units, bias)
        ctx.save_for_backward(winner)
        ctx.window = units.shape[1]
        return cast(Tensor, largest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        (winner,) = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # a gradient of the gradient is wanted
            places = torch.arange(ctx.window, dtype=grad.dtype)[:, None]
            by_units = torch.where(winner[:, None] == places, grad[:, None], 0.0)
        else:
            by_units = torch.ops.flowvi.maxout_gradient(grad, winner, ctx.window)
        return by_units, by_units.sum(0)


_apply = cast(Callable[[Tensor, Tensor], Tensor], _Maxout.apply)
