"""Triangular affine layers: the worked example of a family of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowvi.flows import ParametricFlow
from flowvi.flows.parameters import triangle


class Triangular(ParametricFlow):
    """f(z) = Lz + b, K times, L lower triangular, l_ii > 0; ln|det| = Σ ln l_ii."""

    def __init__(
        self,
        features: int,
        context: int = 0,
        length: int = 1,
        *,
        parameters: str = "auto",
        init: str = "identity",
    ) -> None:
        chain = TriangularChain(features)
        super().__init__(features, context, length, chain, parameters, init)


@dataclass(frozen=True)
class TriangularChain:
    """The mathematics. A layer's P numbers: L row by row (of l_ii, ln l_ii), then b."""

    features: int
    conditioning_dims: ClassVar[int] = 2

    @property
    def size(self) -> int:
        return self.features * (self.features + 1) // 2 + self.features

    def start(self, init: str, length: int) -> Tensor:
        scale = {"identity": 0.0, "xavier": self.features**-0.5, "normal": 1.0}[init]
        return scale * torch.randn(length, self.size)

    def forward(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(z.shape[:-1])
        for matrix, log_diagonal, shift in self._layers(parameters):
            z = torch.einsum("bij,sbj->sbi", matrix, z) + shift
            log_det = log_det + log_diagonal.sum(-1)
        return z, log_det

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(z.shape[:-1])
        for matrix, log_diagonal, shift in reversed(self._layers(parameters)):
            rows = (z - shift).permute(1, 2, 0)  # (batch, D, S): one solve for all S
            rows = torch.linalg.solve_triangular(matrix, rows, upper=False)
            z = rows.permute(2, 0, 1)
            log_det = log_det + log_diagonal.sum(-1)
        return z, log_det

    def _layers(self, parameters: Tensor) -> list[tuple[Tensor, ...]]:
        numbers, shift = parameters.tensor_split([-self.features], dim=-1)
        matrix = triangle(numbers, self.features, 0)
        # softly clamped, so that no layer stretches by more than e²
        log_diagonal = 2 * (matrix.diagonal(dim1=-2, dim2=-1) / 2).tanh()
        lower = matrix.tril(-1) + torch.diag_embed(log_diagonal.exp())
        parts = (part.unbind(1) for part in (lower, log_diagonal, shift))
        return list(zip(*parts, strict=True))
