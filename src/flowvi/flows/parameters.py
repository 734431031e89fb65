"""Where a parametric family's parameters come from: learned directly, or a linear head on the context."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from flowvi.errors import ConfigError, ContextError
from flowvi.flows.flow import Chain, Flow, Link, check_size
from flowvi.flows.registry import STARTS

__all__ = [
    "AmortisedParameters",
    "ParametricChain",
    "ParametricFlow",
    "StaticParameters",
    "amortised",
    "check_word",
    "triangle",
]


class ParametricChain(Chain, Protocol):
    """A chain without parameters of its own, and what it says of those it is given, (batch or 1, K, P)."""

    @property
    def size(self) -> int:
        """P, the number of parameters of one layer."""
        ...

    def start(self, init: str, length: int) -> Tensor:
        """Starting parameters, (length, P), from the global generator."""
        ...


class ParametricFlow(Flow):
    """A flow of one parametric chain: what its families share, and what a new one inherits.

    Args:
        features: D.
        context: width of the context; 0 for none.
        length: K, the number of layers; 0 leaves the Gaussian base.
        chain: the family's mathematics.
        parameters: `auto` (amortised if and only if there is a context), `amortised` or `static`.
        init: `identity`, `xavier` or `normal`.

    Raises:
        ShapeError: a size that is not allowed.
        ConfigError: a word that is not allowed.
        ContextError: amortised parameters without a context.

    Example:
        >>> from flowvi.flows.planar import PlanarChain
        >>> flow = ParametricFlow(2, 0, 3, PlanarChain(features=2), parameters="auto", init="identity")
        >>> flow.links[0].conditioner.values.shape
        torch.Size([3, 5])
    """

    def __init__(
        self, features: int, context: int, length: int, chain: ParametricChain, parameters: str, init: str
    ) -> None:
        self.length = check_size("length", length, 0)
        check_word("init", init, STARTS)
        head = amortised(parameters, check_size("context", context, 0))
        links = []
        if length and chain.size:
            source = (
                AmortisedParameters(chain, context, length, init) if head else StaticParameters(chain, length, init)
            )
            links = [Link(chain, source)]
        super().__init__(features, context, links)


def amortised(parameters: str, context: int) -> bool:
    """Whether layers take their parameters from the context.

    Raises:
        ConfigError: a word that is not allowed.
        ContextError: amortised parameters without a context.
    """
    check_word("parameters", parameters, ("auto", "amortised", "static"))
    if parameters == "amortised" and not context:
        raise ContextError("amortised parameters need a context: give context > 0 or parameters='static'")
    return bool(context) and parameters != "static"


def check_word(name: str, word: str, allowed: tuple[str, ...]) -> str:
    """`word`, if it is allowed.

    Raises:
        ConfigError: it is not.
    """
    if word not in allowed:
        raise ConfigError(f"{name} = {word!r}: allowed are {', '.join(allowed)}")
    return word


def triangle(entries: Tensor, size: int, offset: int) -> Tensor:
    """Matrices (…, size, size) of entries (…, n) row by row: on and below diagonal `offset` ≤ 0, or on and above it."""
    indices = torch.tril_indices if offset <= 0 else torch.triu_indices
    rows, columns = indices(size, size, offset, device=entries.device)
    places = torch.zeros(size, size, dtype=torch.long, device=entries.device)
    places[rows, columns] = torch.arange(1, len(rows) + 1, device=entries.device)
    return torch.nn.functional.pad(entries, (1, 0))[..., places]  # by a gather, which torch.func can differentiate


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
