"""Correlation matrices, by their Cholesky factors."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import pad

from flowvi.inference.supports.sigmoid import log_sigmoid
from flowvi.inference.supports.support import Support, checked_sizes, is_one

__all__ = ["correlation_cholesky"]


def correlation_cholesky(n: int) -> Support:
    """The Cholesky factors L of n×n correlation matrices L Lᵀ: lower triangular, unit rows, positive diagonal.

    Row by row, with z below the diagonal in row order: Lᵢⱼ = tanh(zᵢⱼ) ∏_{k<j} sech(zᵢₖ), Lᵢᵢ = ∏_{k<i} sech(zᵢₖ)
    (Lewandowski, Kurowicka & Joe 2009; torch's `CorrCholeskyTransform`). ln|det| = Σ (i − j + 1) ln sech(zᵢⱼ).

    The base measure is the Lebesgue measure of the entries below the diagonal, as that of torch's `LKJCholesky`.

    Args:
        n: at least 2: `correlation_cholesky(1)` would be one point, with no freedom.

    Raises:
        ShapeError: another n.

    Example:
        >>> value, log_det = correlation_cholesky(2).constrain(torch.tensor([0.5]))
        >>> value
        tensor([[1.0000, 0.0000],
                [0.4621, 0.8868]])
    """
    (n,) = checked_sizes("correlation_cholesky", (n,), 2)
    return _CorrelationCholesky("correlation_cholesky", (n, n))


class _CorrelationCholesky(Support):
    # Not CorrCholeskyTransform: it clamps tanh(z) to ±(1 − ε), |z| < 9 in float32, and 1 − Σ L² cancels in its
    # log-determinant and its inverse; here ln sech(z) one way, and norms of the entries that remain the other.
    @property
    def size(self) -> int:
        return self.shape[0] * (self.shape[0] - 1) // 2

    @property
    def constraint(self) -> constraints.Constraint:
        return constraints.corr_cholesky

    @property
    def arguments(self) -> tuple[float, ...]:
        return self.shape[:1]

    def _value(self, z: Tensor) -> Tensor:
        log_rest = pad(self._lower(_log_sech(z)).cumsum(-1)[..., :-1], (1, 0))
        unit = torch.eye(self.shape[0], dtype=z.dtype, device=z.device)
        return (self._lower(z.tanh()) + unit) * log_rest.exp().clamp(min=torch.finfo(z.dtype).tiny)

    def _log_det(self, z: Tensor) -> Tensor:
        rows, columns = self._indices(z)
        return ((rows - columns + 1) * _log_sech(z)).sum(-1)

    def _inverse(self, value: Tensor) -> Tensor:
        rest = value.diagonal(dim1=-2, dim2=-1)  # of each row, the norm of what is right of column j
        columns = []
        for j in reversed(range(self.shape[0] - 1)):
            below, right = value[..., j + 1 :, j], rest[..., j + 1 :]
            norm = torch.hypot(below, right)
            columns.append(pad(_asinh(below, right, norm), (j + 1, 0)))
            rest = torch.cat([rest[..., : j + 1], norm], -1)
        rows, below_diagonal = self._indices(value)
        return torch.stack(columns[::-1], -1)[..., rows, below_diagonal]

    def _inside(self, value: Tensor) -> Tensor:
        lower = (value.triu(1) == 0).flatten(-2).all(-1)
        unit = is_one(value.square().sum(-1), value).all(-1)
        return lower & unit & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)

    def _indices(self, points: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = torch.tril_indices(self.shape[0], self.shape[1], -1, device=points.device)
        return rows, columns

    def _lower(self, z: Tensor) -> Tensor:
        """(…, size) -> (…, n, n), below the diagonal in row order, 0 elsewhere."""
        rows, columns = self._indices(z)
        place = torch.full(self.shape, self.size, device=z.device)
        place[rows, columns] = torch.arange(self.size, device=z.device)
        return pad(z, (0, 1))[..., place]


def _log_sech(z: Tensor) -> Tensor:
    """ln sech(z) = ln 2 + ½ ln σ(2z) + ½ ln σ(−2z), without the overflow of cosh."""
    return math.log(2) + (log_sigmoid(2 * z) + log_sigmoid(-2 * z)) / 2


def _asinh(opposite: Tensor, adjacent: Tensor, norm: Tensor) -> Tensor:
    """asinh(opposite/adjacent), adjacent > 0, with `norm` their hypotenuse: also where the ratio overflows."""
    small = opposite.abs() < adjacent
    size = torch.where(opposite < 0, -opposite, opposite)
    large = (size + norm).log() - adjacent.log()
    return torch.where(
        small,
        (torch.where(small, opposite, 0.0) / adjacent).asinh(),
        torch.where(opposite < 0, -large, large),
    )
