"""The Gaussian posterior with a full covariance: the second baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowvi.errors import ShapeError
from flowvi.flows.flow import check_size
from flowvi.flows.parameters import ParametricFlow, triangle

__all__ = ["FullRankGaussian", "UnitTriangularChain"]


class FullRankGaussian(ParametricFlow):
    """z = (I + N) z0, N strictly lower triangular, on a diagonal Gaussian: any covariance, (I + N) diag σ² (I + N)ᵀ.

    The log-determinant is 0: the volume is the base's (Kucukelbir et al. 2017, Section 2.4, with the Cholesky
    factor's diagonal in the base). It starts as the diagonal Gaussian.

    Args:
        features: D.
        context: width of the context; 0 for none.
        length: 0; taken so that every family is built alike.
        parameters: N's: `auto` (amortised if and only if there is a context), `amortised` or `static`.

    Raises:
        ShapeError: a length other than 0, or a size that is not allowed.
        ConfigError: an option that is not allowed.
        ContextError: amortised parameters without a context.

    Example:
        >>> flow = FullRankGaussian(features=3)
        >>> flow().mean.shape, flow().variance.shape
        (torch.Size([3]), torch.Size([3]))
    """

    def __init__(self, features: int, context: int = 0, length: int = 0, *, parameters: str = "auto") -> None:
        if check_size("length", length, 0):
            raise ShapeError(f"length = {length!r}: a Gaussian has no layers to count, expected 0")
        check_size("features", features, 1)
        super().__init__(features, context, 1, UnitTriangularChain(features), parameters, "identity")
        self.length = 0


@dataclass(frozen=True)
class UnitTriangularChain:
    """z -> (I + N) z for each of K layers, from the entries of N row by row, (batch or 1, K, D(D − 1)/2)."""

    features: int
    conditioning_dims: ClassVar[int] = 2
    linear: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """P = D(D − 1)/2."""
        return self.features * (self.features - 1) // 2

    def start(self, init: str, length: int) -> Tensor:
        """Zeros, (length, P): the identity, the one start there is."""
        return torch.zeros(length, self.size)

    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """(S, batch, D) -> the image and the log-determinant, (S, batch), which is 0."""
        for matrix in self._matrices(parameters):
            z = torch.einsum("sbd,bed->sbe", z, matrix)
        return z, z.new_zeros(z.shape[:-1])

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The preimage by substitution, and the log-determinant, 0."""
        for matrix in reversed(self._matrices(parameters)):
            columns = z.permute(1, 2, 0)  # (batch, D, S): one solve for all samples
            z = torch.linalg.solve_triangular(matrix, columns, upper=False, unitriangular=True).permute(2, 0, 1)
        return z, z.new_zeros(z.shape[:-1])

    def _matrices(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """I + N of each layer, (batch or 1, D, D)."""
        eye = torch.eye(self.features, dtype=parameters.dtype, device=parameters.device)
        return (triangle(parameters, self.features, -1) + eye).unbind(1)
