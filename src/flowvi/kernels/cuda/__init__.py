"""The fused chains on CUDA, by Triton: `run` and `gradient` of every family."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flowvi.kernels.cuda import householder, planar, radial

__all__ = ["gradient", "run"]

_FAMILIES = {"planar": planar, "radial": radial, "householder": householder}


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
    with torch.cuda.device_of(z):
        _FAMILIES[family].run(z, parameters, out, log_det, saved, table, options)


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
    """The operator `flowvi::chain_gradient`. Sums over points have one order: nothing is added atomically."""
    given = grad_out, grad_log_det, z, parameters, saved, table
    with torch.cuda.device_of(z):
        grad_z, grad_parameters = _FAMILIES[family].gradient(*given, options)
    return grad_z, grad_parameters
