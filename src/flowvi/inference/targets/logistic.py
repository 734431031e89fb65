"""Bayesian logistic regression on the breast cancer data of Wisconsin (see breast_cancer/SOURCE.md)."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from importlib.resources import files

import torch
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid

from flowvi.errors import DataError
from flowvi.inference.targets.tails import gamma_draws
from flowvi.inference.targets.target import Difficulty, Target

__all__ = ["CHECKSUM", "LOG_BOUND", "log_ratio", "logistic_regression", "propose"]

CHECKSUM = "9b1fc6e9f98244f843eec924d4b2199e740ed9231b5ba2e4dd5db51cd0dfa720"
"""SHA-256 of the data file."""

LOG_BOUND = -94.12
"""Above every `log_ratio`: 200 ascents from draws of the proposal all ended at −94.1261."""

_DIM = 6
_PRIOR = 2.5  # standard deviation of each coefficient
_NU = 8.0  # of the Student-t that proposes
_LOG_Z, _LOG_Z_SE = -95.45616, 2.6e-4


def logistic_regression(shift: float) -> Target:
    """Benign or not, by an intercept and five standardised columns: shift + Σ ln σ(± xᵀβ) + Σ ln N(βᵢ; 0, 2.5²).

    Draws are exact, by rejection from a Student-t around the mode, whose tails are heavier than the posterior's,
    which are those of the prior at most. ln Z is from 4.2 million draws of the same Student-t, weighted, whose
    effective number is 79 % of that.

    Example:
        >>> logistic_regression(0.0).log_density(torch.zeros(1, 6))
        tensor([-405.4122])
    """

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        kept = torch.empty(0, _DIM, dtype=torch.float64)
        while len(kept) < n:
            beta = propose(min(n, 10_000), generator)
            log_u = torch.rand(len(beta), generator=generator, dtype=torch.float64).log()
            kept = torch.cat([kept, beta[log_u < log_ratio(beta) - LOG_BOUND]])
        return kept[:n]

    return Target(
        name="logistic_regression",
        about="Logistic regression, breast cancer Wisconsin (Street, Wolberg & Mangasarian 1993)",
        dim=_DIM,
        log_density=lambda beta: shift + _log_posterior(beta),
        log_z=shift + _LOG_Z,
        log_z_se=_LOG_Z_SE,
        truth="ln Z by importance sampling, ESS 0.79 n; draws by rejection",
        sample=sample,
        difficulty=frozenset({Difficulty.SKEWED}),
    )


def propose(n: int, generator: Generator | None = None) -> Tensor:
    """Draws (n, 6) of a Student-t with 8 degrees of freedom around the mode, of the Laplace approximation's shape.

    Example:
        >>> propose(3).shape
        torch.Size([3, 6])
    """
    mode, spread = _laplace()
    white = torch.randn(n, _DIM, generator=generator, dtype=torch.float64)
    return mode + (white * (_NU / (2 * gamma_draws(_NU / 2, (n, 1), generator))).sqrt()) @ spread.T


def log_ratio(beta: Tensor) -> Tensor:
    """ln p(y, β) − ln t(β), (n,), in nats: posterior over proposal.

    Example:
        >>> bool(log_ratio(propose(100)).max() < LOG_BOUND)
        True
    """
    mode, spread = _laplace()
    white = torch.linalg.solve_triangular(spread, (beta - mode).T, upper=False).T
    log_t = math.lgamma((_NU + _DIM) / 2) - math.lgamma(_NU / 2) - _DIM / 2 * math.log(_NU * math.pi)
    log_t = log_t - spread.diagonal().log().sum() - (_NU + _DIM) / 2 * (white.square().sum(-1) / _NU).log1p()
    ratio: Tensor = _log_posterior(beta) - log_t
    return ratio


def _log_posterior(beta: Tensor) -> Tensor:
    log_prior = -(beta / _PRIOR).square().sum(-1) / 2 - _DIM * math.log(_PRIOR * math.sqrt(2 * math.pi))
    return log_prior + logsigmoid(beta @ _signed_columns().to(beta).T).sum(-1)


@lru_cache
def _laplace() -> tuple[Tensor, Tensor]:
    """The posterior's mode (6,), and L with L Lᵀ = −H⁻¹ there, by Newton's method: ln p is concave."""
    columns = _signed_columns()
    beta = torch.zeros(_DIM, dtype=torch.float64)
    for _ in range(30):
        miss = (-columns @ beta).sigmoid()
        gradient = columns.T @ miss - beta / _PRIOR**2
        curvature = (columns.T * (miss * (1 - miss))) @ columns + torch.eye(_DIM, dtype=torch.float64) / _PRIOR**2
        beta = beta + torch.linalg.solve(curvature, gradient)
    return beta, torch.linalg.cholesky(torch.linalg.inv(curvature))


@lru_cache
def _signed_columns() -> Tensor:
    """(569, 6), float64: 1 and the standardised columns, times −1 in the rows that are not benign.

    Raises:
        DataError: the file is not, byte for byte, the one that was recorded.
    """
    file = files("flowvi.inference.targets") / "breast_cancer" / "wdbc.csv"
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != CHECKSUM:
        raise DataError(f"{file} is damaged (SHA-256 {found}, not {CHECKSUM}): install flowvi again")
    rows = [list(map(float, line.split(","))) for line in content.decode().splitlines()[1:]]
    table = torch.tensor(rows, dtype=torch.float64)
    columns, benign = table[:, :-1], table[:, -1:]
    columns = (columns - columns.mean(0)) / columns.std(0, correction=0)
    return torch.cat([torch.ones_like(benign), columns], -1) * (2 * benign - 1)
