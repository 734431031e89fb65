"""Targets whose integral is infinite: no posterior can be right, and each must be called out."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from flowvi.inference.targets.target import Difficulty, Target

__all__ = ["flat", "ridge", "slow_tail"]


def flat(shift: float) -> Target:
    """The same everywhere.

    Example:
        >>> import torch
        >>> flat(1.5).log_density(torch.zeros(1, 2)), flat(1.5).log_z
        (tensor([1.5000]), inf)
    """

    # Not a constant tensor: what a user writes has a gradient, and it is 0.
    def log_density(x: Tensor) -> Tensor:
        return shift + 0 * x.sum(-1)

    return _improper("improper_flat", "The same everywhere", log_density, "constant on the plane")


def ridge(shift: float) -> Target:
    """exp(shift − ½ (x₁ − x₂)²): only the difference is identified, and the density is constant along x₁ = x₂.

    Example:
        >>> import torch
        >>> ridge(0.0).log_density(torch.tensor([[1.0, 1.0], [9.0, 9.0]]))
        tensor([0., 0.])
    """
    return _improper(
        "improper_ridge",
        "Two parameters of which only the difference is identified",
        lambda x: shift - (x[..., 0] - x[..., 1]).square() / 2,
        "constant along a line",
    )


def slow_tail(shift: float) -> Target:
    """exp(shift − ½ x₁²)/(1 + |x₂|), which falls off, but too slowly: ∫ diverges as a logarithm.

    Example:
        >>> import torch
        >>> slow_tail(0.0).log_density(torch.tensor([[0.0, 1.0]]))
        tensor([-0.6931])
    """
    return _improper(
        "improper_slow_tail",
        "A tail that falls off as 1/|x|",
        lambda x: shift - x[..., 0].square() / 2 - x[..., 1].abs().log1p(),
        "diverges as ∫ dx/x",
    )


def _improper(name: str, about: str, log_density: Callable[[Tensor], Tensor], truth: str) -> Target:
    return Target(
        name=name,
        about=about,
        dim=2,
        log_density=log_density,
        log_z=math.inf,
        truth=truth,
        sample=None,
        difficulty=frozenset({Difficulty.IMPROPER}),
    )
