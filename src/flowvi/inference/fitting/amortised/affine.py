"""The affine map at the outer end of an amortised posterior: its place and scale are the context's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["AffineChain"]


@dataclass(frozen=True)
class AffineChain:
    """z -> m + L z with L lower triangular, from (m, L) side by side: (batch or 1, D, 1 + D). ln|det| = Σ ln L_ii.

    Example:
        >>> both = torch.tensor([[[5.0, 2.0]]])
        >>> AffineChain().forward(torch.ones(3, 1, 1), both)[0].flatten()
        tensor([7., 7., 7.])
    """

    conditioning_dims: ClassVar[int] = 2

    def forward(self, z: Tensor, conditioning: Tensor) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image, and the log-determinant (S, batch), in nats."""
        mean, scale = conditioning[..., 0], conditioning[..., 1:]
        return mean + torch.einsum("sbd,bed->sbe", z, scale), self._log_det(z, scale)

    def inverse(self, z: Tensor, conditioning: Tensor) -> tuple[Tensor, Tensor]:
        """The preimage by substitution, and the log-determinant of the forward map."""
        mean, scale = conditioning[..., 0], conditioning[..., 1:]
        columns = (z - mean).permute(1, 2, 0)  # (batch, D, S): one solve for all samples
        back = torch.linalg.solve_triangular(scale, columns, upper=False).permute(2, 0, 1)
        return back, self._log_det(z, scale)

    def push_score(self, z: Tensor, slope: Tensor, conditioning: Tensor) -> tuple[Tensor, Tensor]:
        """Points and the score there, each (S, batch, D), to those after the map: the score becomes L⁻ᵀ times it."""
        scale = conditioning[..., 1:]
        pushed = torch.linalg.solve_triangular(scale.mT, slope.permute(1, 2, 0), upper=True).permute(2, 0, 1)
        return self.forward(z, conditioning)[0], pushed

    def _log_det(self, z: Tensor, scale: Tensor) -> Tensor:
        log_det: Tensor = scale.diagonal(dim1=-2, dim2=-1).log().sum(-1).expand(z.shape[:-1])
        return log_det
