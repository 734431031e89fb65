"""Draws of a fitted posterior with their log densities; and draws of the target, by importance resampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flowvi.errors import ConfigError, DensityError
from flowvi.inference.fitting.joint import Values
from flowvi.inference.fitting.weights import defensive_draws

if TYPE_CHECKING:
    from flowvi.inference.fitting.result import Fit

__all__ = ["Draws", "draw", "resample"]

_ROWS = 10_000  # at a time
_POOL = 10  # weighted draws for each that is asked for, and at least _LEAST
_LEAST = 10_000


@dataclass(frozen=True)
class Draws:
    """Draws of q at n points, with densities in the parameters' own coordinates, in nats.

    Example:
        >>> Draws(torch.zeros(3, 2), torch.zeros(3), torch.full((3,), 1.5)).log_weights
        tensor([1.5000, 1.5000, 1.5000], dtype=torch.float64)
    """

    values: Values
    """(n, D), or by name (n, *shape)."""
    log_q: Tensor
    """ln q, (n,)."""
    log_p: Tensor | None
    """The user's log density ln f, (n,); None where there is none."""

    @property
    def log_weights(self) -> Tensor:
        """ln f − ln q, (n,), float64.

        Raises:
            DensityError: there is no log density.
        """
        if self.log_p is None:
            raise DensityError("no weights: the log density is not there")
        return self.log_p.double() - self.log_q.double()


def draw(fit: Fit, n: int) -> Draws:
    """n draws of the posterior with ln q, and ln f where the fit has its log density; from the global generator.

    Raises:
        ConfigError: n is no whole number of at least 1.
    """
    _check(n)
    with torch.no_grad():
        parts = [_draw(fit, min(_ROWS, n - start)) for start in range(0, n, _ROWS)]
    names = parts[0][0]
    values = [torch.cat([part[0][name] for part in parts]) for name in names]
    log_p = [part[2] for part in parts if part[2] is not None]
    return Draws(fit.joint._named(values), torch.cat([part[1] for part in parts]), torch.cat(log_p) if log_p else None)


def _draw(fit: Fit, n: int) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
    values, log_q = fit.posterior.rsample_and_log_prob((n,))
    # not counted: `fit.counts` are those of the search
    log_p = None if fit.density is None else fit.density.raw(values).to(log_q.dtype)
    return fit.joint._listed(values), log_q, log_p


def resample(fit: Fit, n: int) -> Values:
    """n draws of the target: drawn with replacement, in proportion to their weights, from 10 n (10,000 at least).

    Rubin's sampling/importance resampling (1988), from the posterior with heavier tails that ln Z is from: it can
    mend what the posterior's own draws have too little of, where k̂ is below its limit, and means nothing above it.

    Raises:
        DensityError: the fit has no log density, or it is finite at no draw.
        ConfigError: n is no whole number of at least 1.
    """
    _check(n)
    if fit.density is None:
        raise DensityError(
            "this fit was loaded from a file, which holds no log density: it samples and evaluates log_prob, but "
            "weights need the log density; call flowvi.fit again with it"
        )
    module, density, size = fit.stage.module, fit.density.apart(), max(_POOL * n, _LEAST)
    pools = [defensive_draws(module, density, min(_ROWS, size - start)) for start in range(0, size, _ROWS)]
    chosen = _chosen(torch.cat([pool.log_weights for pool in pools]), n)
    return fit.joint.constrain(torch.cat([pool.z for pool in pools])[chosen])[0]


def _check(n: Any) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ConfigError(f"n = {n!r}: expected a whole number of draws of at least 1")


def _chosen(log_weights: Tensor, n: int) -> Tensor:
    """n indices, each in proportion to its weight."""
    if not log_weights.isfinite().any():
        raise DensityError(f"the log density is finite at none of {len(log_weights)} draws: no weights")
    upto = (log_weights - log_weights.max()).exp().cumsum(0)
    at = torch.rand(n, dtype=torch.float64, device=log_weights.device) * upto[-1]
    return torch.searchsorted(upto, at, right=True).clamp(max=len(upto) - 1)
