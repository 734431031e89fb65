"""A bound on what one image does to the posterior's networks.

Long chains of layers that shear have images for which the factors multiply: at some updates the gradient of one image
is a hundred times the others', and after a few such updates there are more of them. The gradient's norm, which is that
of the whole batch, sees it too late.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ImageBound", "bound_rows"]


def bound_rows(gradient: Tensor, most: Tensor | float) -> Tensor:
    """Each row, along the last dimension, scaled down to the length `most` where it is longer; NaN stays NaN.

    Example:
        >>> bound_rows(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    largest = gradient.abs().amax(-1, keepdim=True)
    unit = torch.where(largest > 0, largest, 1.0)  # so that no square leaves the floats
    length = torch.linalg.vector_norm(gradient / unit, dim=-1, keepdim=True) * unit
    beyond = length > most
    if not gradient.is_cuda and not bool(beyond.any()):  # on CUDA, to look would be to wait
        return gradient
    return torch.where(beyond, gradient * (most / length), gradient)


class ImageBound:
    """Bounds the gradient by each row of the output of every linear map in `networks`, before it reaches the weights.

    A row is an image, with the gradient of its own loss; after the posterior's samples it is one sample of an image.
    An operation in place on what a linear map returns is an error of torch's while this is in use.

    Args:
        networks: the posterior's, all that stand between the encoder's context and the flow.
        most: the largest norm, in nats for a unit of output.
        device: of the networks.
    """

    def __init__(self, networks: nn.Module, most: float, device: torch.device) -> None:
        self.most = most
        self._limit = torch.zeros((), device=device)  # where a captured update reads it
        for module in networks.modules():
            if isinstance(module, nn.Linear):
                module.register_full_backward_pre_hook(self._bound)

    def set_share(self, share: float) -> None:
        """What an image's loss counts in the loss that is differentiated, such as 1/batch."""
        self._limit.fill_(self.most * share)

    def _bound(self, module: nn.Module, gradients: Any) -> Any:
        return tuple(None if each is None else bound_rows(each, self._limit.to(each.dtype)) for each in gradients)
