"""One step of RMSprop (Tieleman & Hinton 2012) with momentum, fused."""

from __future__ import annotations

from importlib import import_module

from torch import Tensor

from flowvi.kernels.choice import fuses

__all__ = ["rmsprop_", "takes_rmsprop"]


def takes_rmsprop(*tensors: Tensor) -> bool:
    """Whether `rmsprop_` takes a parameter and what goes with it: on a CPU, of one dtype, contiguous."""
    first = tensors[0]
    alike = all(each.dtype == first.dtype and each.device.type == "cpu" and each.is_contiguous() for each in tensors)
    return alike and fuses(first, first)


def rmsprop_(
    parameter: Tensor,
    grad: Tensor,
    square: Tensor,
    momentum: Tensor,
    *,
    rate: float,
    alpha: float,
    epsilon: float,
    carry: float,
) -> None:
    """v ← αv + (1 − α)g², b ← µb + g/(√v + ε), p ← p − ηb, in place: `square` is v, `momentum` b, `carry` µ."""
    tensors = [each.detach().view(1, 1, -1) for each in (parameter, grad, square, momentum)]
    import_module("flowvi.kernels.cpu").update(tensors, (rate, alpha, epsilon, carry))
