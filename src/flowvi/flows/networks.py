"""What the families whose layers are neural networks share: the flow around the layers, and a conditioner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from flowvi.errors import ConfigError
from flowvi.flows.flow import Flow, Link, check_size
from flowvi.flows.parameters import amortised

__all__ = ["Conditioner", "LayerChain", "MaskedLinear", "NetworkFlow", "check_sizes"]


class Layer(Protocol):
    """One bijection that owns its weights: a module with both directions."""

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(S, batch, D), (batch or 1, C) -> the image and the log-determinant, (S, batch)."""
        ...

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The preimage and the log-determinant of the forward map there."""
        ...


class NetworkFlow(Flow):
    """A flow of K layers with weights of their own: what its families share, and what a new one inherits.

    Args:
        features: D.
        context: width of the context; 0 for none.
        length: K, the number of layers; 0 leaves the Gaussian base.
        layer: makes layer k (0, 1, …) for networks that take so many context features.
        parameters: `amortised`: the context enters the networks; `static`: it does not, and conditions the base
            alone; `auto`: amortised if and only if there is a context.

    Example:
        >>> from flowvi.flows.nice import PermutationCoupling
        >>> def layer(k: int, width: int) -> nn.Module:
        ...     return PermutationCoupling(4, Conditioner(2, width, 2, hidden=(8,), init="xavier"))
        >>> NetworkFlow(4, 5, 3, layer, parameters="auto")(torch.zeros(5)).sample().shape
        torch.Size([4])
    """

    def __init__(
        self, features: int, context: int, length: int, layer: Callable[[int, int], nn.Module], parameters: str
    ) -> None:
        self.length = check_size("length", length, 0)
        enters = amortised(parameters, check_size("context", context, 0))
        layers = [layer(k, context if enters else 0) for k in range(length)]
        links = [Link(LayerChain(layers), nn.Identity() if enters else None)] if length else []
        super().__init__(features, context, links)


class LayerChain(nn.Module):
    """K layers, one after the other; conditioned by the context itself, (batch or 1, C), or by nothing."""

    conditioning_dims: ClassVar[int] = 1

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), in nats."""
        return _through(self.layers, z, context)

    def inverse(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The preimage, and the log-determinant of the forward map there."""
        inverses = [layer.inverse for layer in reversed(self.layers)]
        return _through(inverses, z, context)

    @property
    def push_score(self) -> Callable[..., tuple[Tensor, Tensor]] | None:
        """Points and the score there to those after the chain, without gradients: see `flowvi.flows.path`.

        None where a layer has no `push_score` of its own.
        """
        return self._push_score if all(hasattr(layer, "push_score") for layer in self.layers) else None

    def _push_score(self, z: Tensor, slope: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        for layer in cast(Any, self.layers):
            z, slope = layer.push_score(z, slope, context)
        return z, slope


def _through(maps: Any, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    total: Tensor = z.new_zeros(z.shape[:-1])
    for apply in maps:
        z, log_det = apply(z, context)
        total = total + log_det
    return z, total


class Conditioner(nn.Module):
    """A network of tanh layers from coordinates, and maybe a context, to the parameters of a layer.

    The context enters the first hidden layer. `identity` starts with an output of 0, the rest by Glorot & Bengio
    (2010); `xavier` and `normal` (N(0, 1/inputs)) start all weights so. Biases start at 0.

    Args:
        inputs: coordinates read.
        context: width of the context; 0 for none.
        outputs: numbers given.
        hidden: units of each hidden layer.
        init: `identity`, `xavier` or `normal`.
        masks: for each linear layer of the coordinates, which inputs reach which outputs, (outputs, inputs).
    """

    def __init__(
        self,
        inputs: int,
        context: int,
        outputs: int,
        hidden: Sequence[int],
        init: str,
        masks: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__()
        pairs = pairwise([inputs, *hidden, outputs])
        layers = [nn.Linear(*pair) for pair in pairs] if masks is None else [MaskedLinear(mask) for mask in masks]
        self.layers = nn.ModuleList(layers)
        self.context = nn.Linear(context, hidden[0], bias=False) if context else None
        for layer in (*layers, *([self.context] if self.context else [])):
            _start(layer, init)
        if init == "identity":
            nn.init.zeros_(layers[-1].weight)

    def forward(self, z: Tensor, context: Tensor | None) -> Tensor:
        """(S, batch, inputs), (batch or 1, C) -> (S, batch, outputs)."""
        for k, layer in enumerate(self.layers):
            z = layer(z if k == 0 else z.tanh())
            if k == 0 and self.context is not None:
                z = z + self.context(context)
        return z

    def linearised(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """What it gives at z, and its transposed Jacobian by the coordinates there; of layers without masks.

        (S, batch, inputs) -> (S, batch, outputs), and a function of (S, batch, outputs) that gives (S, batch, inputs).
        """
        hidden: list[Tensor] = []
        for k, layer in enumerate(self.layers):
            z = layer(hidden[-1] if k else z)
            if k == 0 and self.context is not None:
                z = z + self.context(context)
            if k < len(self.layers) - 1:
                hidden.append(z.tanh())

        def transposed(slope: Tensor) -> Tensor:
            for layer, h in zip(reversed(cast(Any, self.layers)), [*reversed(hidden), None], strict=True):
                slope = slope @ layer.weight
                if h is not None:
                    slope = slope - slope * h * h
            return slope

        return z, transposed


class MaskedLinear(nn.Linear):
    """A linear layer some of whose weights count as 0: where `mask`, (outputs, inputs), is false."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """(…, inputs) -> (…, outputs)."""
        return nn.functional.linear(z, torch.where(self.mask, self.weight, 0.0), self.bias)


def check_sizes(hidden: Sequence[int]) -> tuple[int, ...]:
    """The sizes of hidden layers.

    Raises:
        ConfigError: not one or more whole numbers of at least 1.
    """
    sizes = tuple(hidden) if isinstance(hidden, list | tuple) else ()
    if not sizes or not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise ConfigError(f"hidden = {hidden!r}: expected one or more whole numbers of at least 1, such as (64, 64)")
    return sizes


def _start(layer: nn.Linear, init: str) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if init == "normal":
        nn.init.normal_(layer.weight, std=max(layer.in_features, 1) ** -0.5)
    elif layer.weight.numel():
        nn.init.xavier_uniform_(layer.weight)
