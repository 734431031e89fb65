"""Several restarts of one static flow as one: their parameters stacked, their points a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from flowvi.flows import Flow, ParametricFlow, build

__all__ = ["Restarts"]


class Restarts:
    """R flows on the plane that differ in their seeds alone, pushed all at once.

    A parametric family's chain takes the stacked parameters, (R, K, P), as rows of a batch, in one fused kernel; a
    network's layers are mapped over their stacked weights. Each restart starts as it would alone.

    Args:
        kind: of flow, as the registry has it.
        length: K.
        seeds: one for each restart.
        options: the family's own.

    Attributes:
        parameters: each of the flow's parameters by name, R of them stacked.

    Example:
        >>> flows = Restarts("planar", 4, seeds=[0, 1, 2])
        >>> noise = torch.randn(100, 3, 2)
        >>> z, log_q = flows.push(noise)
        >>> z.shape, log_q.shape
        (torch.Size([100, 3, 2]), torch.Size([100, 3]))
        >>> torch.allclose(flows.flow(1)().push(noise[:, 1])[0], z[:, 1], atol=1e-5)
        True
    """

    def __init__(self, kind: str, length: int, seeds: Sequence[int], **options: Any) -> None:
        self._recipe = kind, length, options
        flows = [_seeded(seed, *self._recipe) for seed in seeds]
        self._shape = flows[0]
        parameters, self._buffers = cast(Any, stack_module_state)(flows)  # not annotated in torch
        self.parameters = {name: nn.Parameter(value.detach()) for name, value in parameters.items()}

    def push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Standard normal noise (S, R, 2) -> z, (S, R, 2), and ln q(z), (S, R), in nats."""
        state = {**self.parameters, **self._buffers}
        if isinstance(self._shape.flow, ParametricFlow):
            return self._push(state, noise)
        pushed: tuple[Tensor, Tensor] = cast(Any, vmap)(self._push, in_dims=(0, 1), out_dims=1)(state, noise)
        return pushed

    def flow(self, restart: int) -> Flow:
        """One of them, a copy."""
        pushing = _seeded(0, *self._recipe)
        state = {**self.parameters, **self._buffers}
        pushing.load_state_dict({name: value[restart].detach() for name, value in state.items()})
        return pushing.flow

    def _push(self, state: dict[str, Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
        pushed: tuple[Tensor, Tensor] = functional_call(self._shape, state, noise)
        return pushed


class _Pushing(nn.Module):
    """A flow whose call is a push: `functional_call` lends it a state for the length of one call."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        pushed: tuple[Tensor, Tensor] = self.flow().push(noise)
        return pushed


def _seeded(seed: int, kind: str, length: int, options: dict[str, Any]) -> _Pushing:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return _Pushing(build(kind, features=2, length=length, **options))
