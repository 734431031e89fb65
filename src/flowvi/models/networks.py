"""Networks of the DLGM: maxout layers (Goodfellow et al. 2013, arXiv:1302.4389), as in the paper."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import linear

from flowvi.errors import ShapeError
from flowvi.kernels import maxout

__all__ = ["Decoder", "Encoder", "Maxout"]


class Maxout(nn.Module):
    """Linear units in groups of `window`; each output is the largest of its group.

    Unit i competes with units i + outputs, i + 2·outputs, …: the maximum runs over the slow dimension.

    Args:
        inputs: width of the input.
        units: linear units, before the window.
        outputs: units after it; `units / outputs` is the window.

    Raises:
        ShapeError: units is not a multiple of outputs.

    Example:
        >>> import torch
        >>> Maxout(inputs=3, units=8, outputs=4)(torch.zeros(2, 3)).shape
        torch.Size([2, 4])
    """

    def __init__(self, inputs: int, units: int, outputs: int) -> None:
        super().__init__()
        if not 0 < outputs <= units or units % outputs:
            raise ShapeError(f"maxout of {units} units onto {outputs}: the first must be a multiple of the second")
        self.linear = nn.Linear(inputs, units)
        self.groups = (units // outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) -> (…, outputs)."""
        units = linear(x, self.linear.weight).unflatten(-1, self.groups)
        return maxout(units, self.linear.bias.view(self.groups))  # which adds it while it looks


class Encoder(nn.Module):
    """The deterministic part of the inference network: features -> context, one maxout layer.

    Args:
        inputs: width of the input.
        outputs: width of the context.
        units: linear units, a multiple of `outputs`.

    Example:
        >>> import torch
        >>> Encoder(inputs=784, outputs=4, units=8)(torch.zeros(2, 784)).shape
        torch.Size([2, 4])
    """

    def __init__(self, inputs: int, outputs: int, units: int) -> None:
        super().__init__()
        self.hidden = Maxout(inputs, units, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch…, inputs) -> (batch…, outputs)."""
        h: Tensor = self.hidden(x)
        return h


class Decoder(nn.Module):
    """Latents -> the parameters of a distribution: one maxout layer and one linear layer.

    Args:
        inputs: width of the latents.
        outputs: how many parameters.
        hidden: units after the maxout window.
        units: linear units before it, a multiple of `hidden`.

    Example:
        >>> import torch
        >>> Decoder(inputs=2, outputs=784, hidden=4, units=8)(torch.zeros(5, 3, 2)).shape
        torch.Size([5, 3, 784])
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, units: int) -> None:
        super().__init__()
        self.hidden = Maxout(inputs, units, hidden)
        self.output = nn.Linear(hidden, outputs)

    def forward(self, z: Tensor) -> Tensor:
        """(…, inputs) -> (…, outputs)."""
        out: Tensor = self.output(self.hidden(z))
        return out
