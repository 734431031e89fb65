"""Where a parametric family's parameters come from: learned directly, or a linear head on the context."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from flowvi.errors import ConfigError, ContextError

__all__ = ["AmortisedParameters", "ParametricChain", "StaticParameters", "parameter_source"]


class ParametricChain(Protocol):
    """What a parametric family says of itself, beside its two pure functions."""

    @property
    def size(self) -> int:
        """P, the number of parameters of one layer."""
        ...

    def start(self, init: str, length: int) -> Tensor:
        """Starting parameters, (length, P)."""
        ...


def parameter_source(chain: ParametricChain, context: int, length: int, parameters: str, init: str) -> nn.Module | None:
    """The module that gives the chain its parameters, (batch or nothing, K, P); None for no layers.

    Raises:
        ConfigError: a word that is not allowed.
        ContextError: amortised parameters without a context.
    """
    if parameters not in ("auto", "amortised", "static"):
        raise ConfigError(f"parameters = {parameters!r}: allowed are auto, amortised, static")
    if init not in ("identity", "xavier", "normal"):
        raise ConfigError(f"init = {init!r}: allowed are identity, xavier, normal")
    if parameters == "amortised" and not context:
        raise ContextError("amortised parameters need a context: give context > 0 or parameters='static'")
    if length == 0:
        return None
    if context and parameters != "static":
        return AmortisedParameters(chain, context, length, init)
    return StaticParameters(chain, length, init)


class StaticParameters(nn.Module):
    """Parameters learned directly, shared by every context: (K, P)."""

    def __init__(self, chain: ParametricChain, length: int, init: str) -> None:
        super().__init__()
        self.values = nn.Parameter(chain.start(init, length))

    def forward(self, context: Tensor | None) -> Tensor:
        """(K, P), whatever the context."""
        return self.values


class AmortisedParameters(nn.Module):
    """Parameters from a linear head on the context: (batch…, C) -> (batch…, K, P), contiguous.

    `identity` starts as the static chain does, the same for every context (zero weights, the start in the bias),
    so that a chain of any length begins at the identity. `xavier` draws the head's weights from the uniform
    distribution of Glorot & Bengio (2010) and `normal` from N(0, 1/C), both with zero biases.
    """

    def __init__(self, chain: ParametricChain, context: int, length: int, init: str) -> None:
        super().__init__()
        self.shape = (length, chain.size)
        self.head = nn.Linear(context, length * chain.size)
        with torch.no_grad():
            if init == "identity":
                self.head.weight.zero_()
                self.head.bias.copy_(chain.start(init, length).flatten())
            else:
                self.head.bias.zero_()
                if init == "xavier":
                    nn.init.xavier_uniform_(self.head.weight)
                else:
                    nn.init.normal_(self.head.weight, std=context**-0.5)

    def forward(self, context: Tensor) -> Tensor:
        """(batch…, C) -> (batch…, K, P)."""
        values: Tensor = self.head(context).unflatten(-1, self.shape)
        return values
