"""Rotations by a fixed seed, which keep a target from lying along the axes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rotation"]


def rotation(dim: int) -> Tensor:
    """A random orthogonal matrix (D, D), float64, the same at each call.

    With the signs of R's diagonal the Q of a Gaussian matrix does not depend on who computes it (Mezzadri 2007).

    Example:
        >>> turn = rotation(3)
        >>> torch.allclose(turn @ turn.T, torch.eye(3).double())
        True
    """
    generator = torch.Generator().manual_seed(dim)
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    turn: Tensor = q * r.diagonal().sign()
    return turn
