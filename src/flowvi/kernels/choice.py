"""Which kernel runs a chain: the fused one of the tensors' device, or the reference."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from flowvi.errors import ConfigError

__all__ = ["fuses"]

_NEEDS = {"cpu": "numba", "cuda": "triton"}
_DTYPES = torch.float32, torch.float64


def fuses(z: Tensor, parameters: Tensor) -> bool:
    """Whether a fused kernel takes these tensors.

    It does on a CPU (with numba) and on CUDA (with Triton), in float32 and float64, unless there is nothing to do, or
    a transform of `torch.func` or forward-mode differentiation is at work. The environment variable FLOWVI_KERNEL
    forces `reference`, or asks for `cpu` or `cuda` and then fails rather than do without.

    Raises:
        ConfigError: FLOWVI_KERNEL is none of these, or names a kernel that cannot run here.
    """
    if not _ready(z.device.type) or z.dtype not in _DTYPES or not z.numel() or not parameters.numel():
        return False
    if torch.compiler.is_compiling():
        return True
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    dual: Callable[[Tensor], Any] = torch.autograd.forward_ad.unpack_dual  # not annotated in torch
    return dual(z).tangent is None and dual(parameters).tangent is None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _ready(device: str) -> bool:
    return _chosen(device, os.environ.get("FLOWVI_KERNEL", ""))


@cache
def _chosen(device: str, asked: str) -> bool:
    if asked not in ("", "reference", *_NEEDS):
        raise ConfigError(f"FLOWVI_KERNEL={asked}: allowed are reference, cpu and cuda, or nothing")
    if asked == "reference" or device not in _NEEDS:
        return False
    if asked and asked != device:
        raise ConfigError(f"FLOWVI_KERNEL={asked}: the chain is on the device {device}")
    if find_spec(_NEEDS[device]) is not None:
        return True
    if asked:
        raise ConfigError(f"FLOWVI_KERNEL={asked} needs {_NEEDS[device]}: pip install {_NEEDS[device]}")
    logging.getLogger("flowvi").warning(
        "%s is not installed: flows run layer by layer, many times slower (pip install %s)", *[_NEEDS[device]] * 2
    )
    return False
