"""ln p(x) of binary pixels given logits, in one pass over the logits and one for their gradient."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import softplus

from flowvi.kernels.choice import fuses

__all__ = ["bernoulli_log_prob"]

torch.library.define("flowvi::bernoulli", "(Tensor x, Tensor logits) -> Tensor")
torch.library.define("flowvi::bernoulli_gradient", "(Tensor x, Tensor logits, Tensor grad) -> Tensor")


def bernoulli_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    """Σ_d x_d·l_d − softplus(l_d), (S…, batch…), for x (batch…, D) and logits (S…, batch…, D).

    Example:
        >>> bernoulli_log_prob(torch.tensor([1.0, 0.0]), torch.zeros(2))  # 2 ln ½
        tensor(-1.3863)
    """
    whole = logits.dim() >= x.dim() > 0 and logits.shape[logits.dim() - x.dim() :] == x.shape
    plain = x.dtype == logits.dtype and x.device == logits.device and not x.requires_grad
    if not (whole and plain and fuses(logits, x) and logits.device.type == "cpu"):
        log_p: Tensor = torch.linalg.vecdot(logits, x) - softplus(logits, threshold=40).sum(-1)
        return log_p
    rows = (each.contiguous().view(-1, x.shape[-1]) for each in (x, logits))
    return _apply(*rows).view(logits.shape[:-1])


@torch.library.impl("flowvi::bernoulli", "cpu")
def _run(x: Tensor, logits: Tensor) -> Tensor:
    log_p = logits.new_empty(len(logits))
    # by the logits' rows: the first of the tensors says how many there are
    _on_rows("run", [logits, x, log_p[:, None]])
    return log_p


@torch.library.impl("flowvi::bernoulli_gradient", "cpu")
def _gradient(x: Tensor, logits: Tensor, grad: Tensor) -> Tensor:
    by_logits = torch.empty_like(logits)
    _on_rows("gradient", [logits, x, grad.contiguous()[:, None], by_logits])
    return by_logits


def _on_rows(name: str, rows: list[Tensor]) -> None:
    import_module("flowvi.kernels.cpu").on_rows("bernoulli", name, [each[:, None] for each in rows])


@torch.library.register_fake("flowvi::bernoulli")  # type: ignore[untyped-decorator]
def _(x: Tensor, logits: Tensor) -> Tensor:
    return logits.new_empty(len(logits))


@torch.library.register_fake("flowvi::bernoulli_gradient")  # type: ignore[untyped-decorator]
def _(x: Tensor, logits: Tensor, grad: Tensor) -> Tensor:
    return torch.empty_like(logits)


class _Bernoulli(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, logits: Tensor) -> Tensor:
        ctx.save_for_backward(x, logits)
        return cast(Tensor, torch.ops.flowvi.bernoulli(x, logits))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        x, logits = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # a gradient of the gradient is wanted
            return None, grad[:, None] * (x.repeat(len(logits) // len(x), 1) - logits.sigmoid())
        return None, torch.ops.flowvi.bernoulli_gradient(x, logits, grad)


_apply = cast(Callable[[Tensor, Tensor], Tensor], _Bernoulli.apply)
