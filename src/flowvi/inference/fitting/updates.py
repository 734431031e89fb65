"""Adam's updates with bounded gradients."""

from __future__ import annotations

import math
import statistics
from collections import deque

import torch
from torch import Tensor, nn

__all__ = ["Updates"]

_BOUND = 3.0  # a gradient's norm, in medians of the last ones


class Updates:
    """Adam on a module's parameters, at a rate that may be changed.

    Args:
        module: whose parameters that want gradients are changed in place.
        rate: the first one.
    """

    def __init__(self, module: nn.Module, rate: float) -> None:
        self.parameters: list[Tensor] = [parameter for parameter in module.parameters() if parameter.requires_grad]
        # fused: one operation for all parameters, which are many and small
        self.adam = torch.optim.Adam(self.parameters, lr=rate, fused=bool(self.parameters))
        self.norms: deque[float] = deque(maxlen=100)

    @property
    def rate(self) -> float:
        """Adam's."""
        rate: float = self.adam.param_groups[0]["lr"]
        return rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self.adam.param_groups[0]["lr"] = rate

    def update(self, z: Tensor, pull: Tensor, loss: Tensor | None = None) -> None:
        """One update by the gradient that samples z have, `pull`, of z's shape, and by that of a loss beside it.

        None where it is zero or not finite.
        """
        self.adam.zero_grad()
        if loss is None:
            z.backward(pull)
        else:
            torch.autograd.backward([z, loss], [pull, torch.ones_like(loss)])
        gradients = [each.grad for each in self.parameters if each.grad is not None]
        norm = nn.utils.get_total_norm(gradients).item()
        if not math.isfinite(norm) or norm <= 0:
            return
        self.norms.append(norm)
        bound = _BOUND * statistics.median(self.norms)
        if norm > bound:
            torch._foreach_mul_(gradients, bound / norm)
        self.adam.step()
