"""Householder flows (Tomczak & Welling 2016): rotations of the base."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowvi.errors import ConfigError
from flowvi.flows.flow import check_size
from flowvi.flows.parameters import ParametricFlow
from flowvi.kernels import householder_forward, householder_inverse

__all__ = ["Householder", "HouseholderChain"]


class Householder(ParametricFlow):
    """f(z) = (I − 2vvᵀ/‖v‖²) z, `reflections` times in each of K layers (Tomczak & Welling 2016).

    Orthogonal, so that the log-determinant is 0; on a diagonal Gaussian it gives a Gaussian of any covariance with
    enough reflections. They come in pairs, because two equal ones make the identity and one alone cannot: the ten
    reflections of the paper's T = 10 are `length=5`. A v that is 0 reflects nothing.

    Args:
        features: D, at least 2: a line has no rotation.
        context: width of the context; 0 for a static flow.
        length: K, the number of layers; 0 leaves the Gaussian base.
        reflections: of each layer, an even number.
        parameters: `auto` (amortised if and only if there is a context), `amortised` or `static`.
        init: `identity` (each pair starts equal), `xavier` or `normal`.

    Raises:
        ShapeError: a size that is not allowed.
        ConfigError: an option that is not allowed.
        ContextError: amortised parameters without a context.

    Example:
        >>> flow = Householder(features=3, length=4, init="normal")
        >>> z0 = torch.randn(5, 3)
        >>> torch.allclose(flow().push(z0)[0].norm(dim=-1), z0.norm(dim=-1), atol=1e-5)
        True
    """

    def __init__(
        self,
        features: int,
        context: int = 0,
        length: int = 8,
        *,
        reflections: int = 2,
        parameters: str = "auto",
        init: str = "identity",
    ) -> None:
        check_size("features", features, 2)
        if check_size("reflections", reflections, 2) % 2:
            raise ConfigError(
                f"reflections = {reflections!r}: they come in pairs, expected an even number of at least 2"
            )
        super().__init__(features, context, length, HouseholderChain(features, reflections), parameters, init)


@dataclass(frozen=True)
class HouseholderChain:
    """The mathematics of K·reflections reflections; parameters (batch or 1, K, reflections·D)."""

    features: int
    reflections: int
    conditioning_dims: ClassVar[int] = 2
    linear: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """P = reflections·D."""
        return self.reflections * self.features

    def start(self, init: str, length: int) -> Tensor:
        """Starting vectors, (length, P): N(0, 1) or `xavier`, uniform on ±√(6/(D + 1)); `identity`: pairs of equals."""
        d = self.features
        if init == "xavier":
            return (torch.rand(length, self.size) * 2 - 1) * math.sqrt(6 / (d + 1))
        if init == "normal":
            return torch.randn(length, self.size)
        return torch.randn(length, self.reflections // 2, 1, d).expand(-1, -1, 2, -1).reshape(length, self.size)

    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), which is 0."""
        return householder_forward(z, parameters)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The preimage, and the log-determinant, 0."""
        return householder_inverse(z, parameters)
