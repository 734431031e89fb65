"""Planar flows (Rezende & Mohamed 2015, Section 4.1), with an exact inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowvi.flows.flow import check_size
from flowvi.flows.parameters import ParametricFlow, check_word
from flowvi.kernels import planar_forward, planar_inverse, planar_push_score

__all__ = ["Planar", "PlanarChain"]


class Planar(ParametricFlow):
    """f(z) = z + û·h(wᵀz + b), K times (Rezende & Mohamed 2015, Eq. 10), on a diagonal Gaussian.

    ln|det ∂f/∂z| = ln|1 + ûᵀw·h′(wᵀz + b)| (Eq. 11 and 12), computed from positive terms only. The inverse is one
    scalar root for each layer, monotone because wᵀû > −1.

    Args:
        features: D.
        context: width of the context; 0 for a static flow.
        length: K, the number of layers; 0 leaves the Gaussian base.
        invertibility: `centred` (default) or `paper`: how u becomes û with wᵀû > −1 (Appendix A.1). The paper's
            m(x) has m(0) = −0.307, so that û grows as w → 0 and u = 0 is not the identity; the centred one has
            m(0) = 0 and ‖û‖ ≤ ‖u‖.
        h: `tanh`, or `leaky_relu` with slope 0.01 below 0, whose inverse is piecewise in closed form.
        parameters: `auto` (amortised if and only if there is a context), `amortised` or `static`.
        init: `identity` (the whole chain starts as the identity, with either m), `xavier` or `normal`.

    Raises:
        ShapeError: a size that is not allowed.
        ConfigError: an option that is not allowed.
        ContextError: amortised parameters without a context.

    Example:
        >>> import torch
        >>> flow = Planar(features=2, length=8)
        >>> z, log_q = flow().rsample_and_log_prob((5,))
        >>> z.shape, log_q.shape
        (torch.Size([5, 2]), torch.Size([5]))
        >>> torch.allclose(flow().log_prob(z), log_q, atol=1e-4)
        True
    """

    def __init__(
        self,
        features: int,
        context: int = 0,
        length: int = 8,
        *,
        invertibility: str = "centred",
        h: str = "tanh",
        parameters: str = "auto",
        init: str = "identity",
    ) -> None:
        check_size("features", features, 1)
        super().__init__(features, context, length, PlanarChain(features, invertibility, h), parameters, init)


@dataclass(frozen=True)
class PlanarChain:
    """The mathematics of K planar layers; parameters (batch or 1, K, 2D + 1): each layer's w, u, b."""

    features: int
    invertibility: str = "centred"
    h: str = "tanh"
    conditioning_dims: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_word("invertibility", self.invertibility, ("paper", "centred"))
        check_word("h", self.h, ("tanh", "leaky_relu"))

    @property
    def size(self) -> int:
        """P = 2D + 1."""
        return 2 * self.features + 1

    def start(self, init: str, length: int) -> Tensor:
        """Starting parameters, (length, P).

        `identity`: w ~ N(0, 1/D) and u parallel to w with m(wᵀu) = 0, so that û = 0. `xavier`: w and u, each a
        D × 1 matrix, uniform on ±√(6/(D + 1)). `normal`: w, u and b ~ N(0, 1). b = 0 in the first two.
        """
        d = self.features
        values = torch.randn(length, self.size)
        if init == "normal":
            return values
        if init == "xavier":
            values = (torch.rand(length, self.size) * 2 - 1) * math.sqrt(6 / (d + 1))
        else:
            w = values[:, :d] * d**-0.5
            root = math.log(math.e - 1) if self.invertibility == "paper" else 0.0  # of m
            values[:, :d] = w
            values[:, d : 2 * d] = root * w / w.square().sum(-1, keepdim=True)
        values[:, -1] = 0
        return values

    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), in nats."""
        return planar_forward(z, parameters, self.invertibility, self.h)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The preimage, and the log-determinant of the forward map there."""
        return planar_inverse(z, parameters, self.invertibility, self.h)

    def push_score(self, z: Tensor, slope: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Points and the score there, each (S, batch, D), to those after the chain; no gradients."""
        return planar_push_score(z, slope, parameters, self.invertibility, self.h)
