"""How many threads a fit computes in: one, where the log density is small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from flowvi.inference.fitting.density import Density

__all__ = ["few_threads", "largest"]

_SMALL = 100_000  # numbers: an operation on fewer is over before a second thread has woken


@contextmanager
def few_threads(density: Density, z: Tensor) -> Iterator[None]:
    """One thread of torch's, if no tensor of the log density at points z (n, D) is large; after it as many as before.

    A step is hundreds of small operations. Shared out to threads each takes as long as the slowest of these needs to
    wake, on a busy machine milliseconds. What decides is size and not time, so that the same fit gives the same bits.
    """
    before = torch.get_num_threads()
    alone = before > 1 and z.device.type == "cpu" and largest(density, z) < _SMALL
    if alone:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if alone:
            torch.set_num_threads(before)


def largest(density: Density, z: Tensor) -> int:
    """The numbers in the largest tensor that the gradient of the log density at z (n, D) needs, its data included.

    Example:
        >>> from flowvi.inference.fitting.joint import Joint
        >>> data = torch.randn(500)
        >>> largest(Density(lambda z: -(z - data).square().sum(-1), Joint.of(1)), torch.zeros(20, 1))
        10000
    """
    sizes = [z.numel()]

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        density.value_and_gradient(z)
    return max(sizes)
