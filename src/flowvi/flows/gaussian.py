"""The Gaussian posterior: the base alone, the baseline of every comparison (K = 0)."""

from __future__ import annotations

from flowvi.errors import ShapeError
from flowvi.flows.flow import Flow, check_size

__all__ = ["Gaussian"]


class Gaussian(Flow):
    """A diagonal Gaussian, amortised with a context (Kingma & Welling 2014), learned without.

    Args:
        features: D.
        context: width of the context; 0 for none.
        length: 0; taken so that every family is built alike.

    Raises:
        ShapeError: a length other than 0, or a size that is not allowed.

    Example:
        >>> Gaussian(features=3)().mean
        tensor([0., 0., 0.], grad_fn=<...>)
    """

    def __init__(self, features: int, context: int = 0, length: int = 0) -> None:
        if check_size("length", length, 0):
            raise ShapeError(f"length = {length!r}: a Gaussian has no layers, expected 0")
        super().__init__(features, context)
        self.length = 0
