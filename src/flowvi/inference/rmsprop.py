"""The paper's optimiser in one pass over the numbers; torch has it fused for no device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flowvi.kernels import rmsprop_, takes_rmsprop

__all__ = ["RMSprop"]


class RMSprop(torch.optim.RMSprop):
    """torch's RMSprop with momentum, its state and its formula: fused where a kernel takes all of its tensors.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(3))
        >>> optimiser = RMSprop([weight], lr=0.1, momentum=0.9)
        >>> weight.sum().backward()
        >>> optimiser.step()
        >>> round(weight[0].item(), 4)  # 1 − 0.1·g/√(0.01·g²)
        0.0
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update; see `torch.optim.RMSprop`."""
        jobs = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if closure is not None or not all(self._fuses(group, p) for group, p in jobs):
            return super().step(closure)  # it also makes the state
        for group, p in jobs:
            state = self.state[p]
            state["step"] += 1
            rates = {"alpha": group["alpha"], "epsilon": group["eps"], "carry": group["momentum"]}
            rmsprop_(p, p.grad, state["square_avg"], state["momentum_buffer"], rate=float(group["lr"]), **rates)
        return None

    def _fuses(self, group: dict[str, Any], p: Tensor) -> bool:
        plain = group["momentum"] > 0 and not (group["weight_decay"] or group["centered"] or group["maximize"])
        state, grad = self.state[p], p.grad
        if not plain or not state or grad is None:
            return False
        return takes_rmsprop(p, grad, state["square_avg"], state["momentum_buffer"])
