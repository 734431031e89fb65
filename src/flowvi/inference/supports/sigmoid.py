"""The logarithm of the sigmoid, of which the log-determinants of intervals, simplices and correlations are made."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["log_sigmoid"]


def log_sigmoid(x: Tensor) -> Tensor:
    """ln σ(x)."""
    # softplus is by default linear beyond 20, off by 2e-9; logsigmoid's gradient warns under a nested vmap.
    return -softplus(-x, threshold=40.0)
