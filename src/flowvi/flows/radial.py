"""Radial flows (Rezende & Mohamed 2015, Section 4.1), with an exact inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowvi.flows.flow import check_size
from flowvi.flows.parameters import ParametricFlow
from flowvi.kernels import radial_forward, radial_inverse

__all__ = ["Radial", "RadialChain"]


class Radial(ParametricFlow):
    """f(z) = z + β̂·(z − z_ref)/(α + r), r = ‖z − z_ref‖, K times (Rezende & Mohamed 2015, Eq. 14).

    α = softplus(a) > 0 and β̂ = −α + softplus(β) > −α (Appendix A.2). With s = softplus(β) the determinant is
    ((r + s)/(α + r))^{D−1} · (r² + 2αr + αs)/(α + r)²; the inverse is the root of a quadratic in r.

    Args:
        features: D.
        context: width of the context; 0 for a static flow.
        length: K, the number of layers; 0 leaves the Gaussian base.
        parameters: `auto` (amortised if and only if there is a context), `amortised` or `static`.
        init: `identity` (the whole chain starts as the identity: β = a), `xavier` or `normal`.

    Raises:
        ShapeError: a size that is not allowed.
        ConfigError: an option that is not allowed.
        ContextError: amortised parameters without a context.

    Example:
        >>> flow = Radial(features=2, length=8)
        >>> z, log_q = flow().rsample_and_log_prob((5,))
        >>> torch.allclose(flow().log_prob(z), log_q, atol=1e-4)
        True
    """

    def __init__(
        self,
        features: int,
        context: int = 0,
        length: int = 8,
        *,
        parameters: str = "auto",
        init: str = "identity",
    ) -> None:
        check_size("features", features, 1)
        super().__init__(features, context, length, RadialChain(features), parameters, init)


@dataclass(frozen=True)
class RadialChain:
    """The mathematics of K radial layers; parameters (batch or 1, K, D + 2): each layer's z_ref, a, β."""

    features: int
    conditioning_dims: ClassVar[int] = 2

    @property
    def size(self) -> int:
        """P = D + 2."""
        return self.features + 2

    def start(self, init: str, length: int) -> Tensor:
        """Starting parameters, (length, P).

        `identity`: z_ref ~ N(0, I), α = s = 1. `xavier`: z_ref, as a D × 1 matrix, uniform on ±√(6/(D + 1)), and a
        and β so too. `normal`: all ~ N(0, 1).
        """
        d = self.features
        if init == "xavier":
            return (torch.rand(length, self.size) * 2 - 1) * math.sqrt(6 / (d + 1))
        values = torch.randn(length, self.size)
        if init == "identity":
            values[:, d:] = math.log(math.e - 1)  # softplus of it is 1
        return values

    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), in nats."""
        return radial_forward(z, parameters)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The preimage, and the log-determinant of the forward map there."""
        return radial_inverse(z, parameters)
