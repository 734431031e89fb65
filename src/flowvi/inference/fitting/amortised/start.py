"""Where an amortised posterior starts: Gaussians fitted to a few data sets, and how their means go with the context."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowvi.errors import DensityError
from flowvi.inference.fitting.amortised.density import RowDensity
from flowvi.inference.fitting.gaussian import Gaussian, natural_gaussian
from flowvi.inference.fitting.modes import find_modes
from flowvi.inference.fitting.search import starting_points

__all__ = ["Start", "find_start"]

_ROWS, _MOST = 16, 64  # so many, and one for each column of context, up to the most
_UPDATES = 15
_RIDGE = 1e-4


@dataclass(frozen=True)
class Start:
    """z ≈ mean + scale (slope ĉ + x), x ~ N(0, I), for the standardised context ĉ."""

    mean: Tensor
    """(D,)."""
    scale: Tensor
    """Lower triangular, (D, D)."""
    slope: Tensor
    """(D, C)."""
    context_mean: Tensor
    """(C,)."""
    context_sd: Tensor
    """(C,); 0 where a column is constant."""

    @classmethod
    def trivial(cls, features: int, context: int) -> Start:
        """N(0, I) whatever the context, which counts as standardised."""
        return cls(
            torch.zeros(features),
            torch.eye(features),
            torch.zeros(features, context),
            torch.zeros(context),
            torch.ones(context),
        )


def find_start(density: RowDensity, context: Tensor) -> Start:
    """Gaussians around the modes of some rows of context (N, C), their means regressed on it with a slight ridge.

    The scale's square is the mean of their covariances and of the regression's residuals: wide where the means do not
    follow a straight line.

    Raises:
        DensityError: a data set whose log density is nowhere finite.
    """
    sd, mean = torch.std_mean(context, 0)
    sd = torch.where(context.amax(0) > context.amin(0), sd, 0.0)
    rows = context[: min(_ROWS + context.shape[1], _MOST)]
    fitted = [_gaussian(density, row) for row in rows]
    means = torch.stack([each.mean for each in fitted]).double()
    spread = torch.stack([each.scale @ each.scale.mT for each in fitted]).double().mean(0)
    given = torch.where(sd > 0, (rows - mean) / sd, 0.0).double()
    regressors = torch.cat([torch.ones_like(given[:, :1]), given], -1)
    ridge = _RIDGE * len(rows) * torch.eye(regressors.shape[1]).to(regressors)
    solution = torch.linalg.solve(regressors.mT @ regressors + ridge, regressors.mT @ means)
    residual = means - regressors @ solution
    scale = torch.linalg.cholesky(spread + residual.mT @ residual / len(rows))
    slope = torch.linalg.solve_triangular(scale, solution[1:].mT, upper=False)
    return Start(solution[0].to(context), scale.to(context), slope.to(context), mean, sd)


def _gaussian(density: RowDensity, row: Tensor) -> Gaussian:
    one = density.of(row)
    try:
        point = starting_points(one, 1, row.new_zeros(()))[0]
    except DensityError as error:
        raise DensityError(f"for the data set of context {_short(row)}: {error}") from error
    modes = find_modes(one, point[None], 1)  # natural gradients alone would be long on the way to a narrow posterior
    begin = Gaussian(modes[0].mean, modes[0].scale) if modes else Gaussian(point, torch.eye(len(point)).to(row))
    return natural_gaussian(one, begin, _UPDATES, max(64, 4 * len(point)))


def _short(row: Tensor) -> str:
    text = ", ".join(f"{value:.4g}" for value in row[:5].tolist())
    return f"({text}{', …' if len(row) > 5 else ''})"
