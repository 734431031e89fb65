"""A Gaussian fitted by natural gradients: where the mass is, and how wide, in a few dozen evaluations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowvi.inference.fitting.density import Density

__all__ = ["Gaussian", "natural_gaussian"]

_LARGEST_GRADIENT = 5.0  # times the median: one far point must not turn the whole fit
_STEEPEST = 1e8  # far from the mass a gradient may overflow: narrower and nearer then
_WIDEST = 1e8  # of the scale's norm: an improper density would have it grow until it overflows
_CHANGE = 4.0  # of a direction's variance in one update, at most, up or down


@dataclass(frozen=True)
class Gaussian:
    """N(mean, scale scaleᵀ), scale (D, D) lower triangular.

    Example:
        >>> Gaussian(torch.zeros(2), 2 * torch.eye(2)).diagonal
        tensor([2., 2.])
    """

    mean: Tensor
    scale: Tensor

    @property
    def diagonal(self) -> Tensor:
        """σ (D,) of the diagonal Gaussian nearest by KL(diagonal ‖ this): 1/√ of the precision's diagonal."""
        eye = torch.eye(len(self.mean), dtype=self.mean.dtype, device=self.mean.device)
        inverse: Tensor = torch.linalg.solve_triangular(self.scale, eye, upper=False)
        sigma: Tensor = inverse.norm(dim=0).reciprocal()
        return sigma


def natural_gaussian(
    density: Density, start: Gaussian, updates: int, samples: int, powers: tuple[float, float] = (1.0, 1.0)
) -> Gaussian:
    """Maximise the ELBO over Gaussians by natural gradients, from `start`.

    In the coordinates x where q is N(0, I), the gradient of ln f at samples is regressed on them, ∇ ln f ≈ a + B x.
    At the optimum E[∇ ln f] = 0 and E[∇² ln f] = −I (Opper & Archambeau 2009, Eq. 8 and 9), for which a and B stand by
    Stein's lemma, exactly so for a Gaussian f. An update goes a part ρ of the way to precision −B and the mean that
    belongs to it (Khan & Rue 2023, arXiv:2107.04562). Points whose density or gradient is not finite are left out;
    gradients longer than five medians are shortened.

    Args:
        density: over unconstrained points.
        start: the first q.
        updates: how many; ρ is 1 for the first third and falls from there.
        samples: for each update, more than D + 1.
        powers: of f, at the first update and from the middle one on: below 1 f is flatter.

    Example:
        >>> from flowvi.inference.fitting.joint import Joint
        >>> density = Density(lambda z: -(z - 3).square().sum(-1) / 8, Joint.of(2))
        >>> found = natural_gaussian(density, Gaussian(torch.zeros(2), torch.eye(2)), 20, 16)
        >>> torch.allclose(found.mean, torch.tensor([3.0, 3.0]), atol=1e-3), found.diagonal.round(decimals=3)
        (True, tensor([2., 2.]))
    """
    q = start
    for update in range(updates):
        power = powers[1] * (powers[0] / powers[1]) ** max(0.0, 1 - 2 * update / updates)
        rate = min(1.0, (updates / 3) / (update + 1))
        x = torch.randn(samples, len(q.mean), dtype=q.mean.dtype, device=q.mean.device)
        value, slope = density.value_and_gradient(q.mean + x @ q.scale.mT)
        slope = power * slope @ q.scale
        good = value.isfinite() & (slope.norm(dim=-1) < _STEEPEST)
        if int(good.sum()) <= len(q.mean) + 1:
            q = _towards(q, x[good])
            continue
        q = _updated(q, x[good], slope[good], rate)
    return q


def _updated(q: Gaussian, x: Tensor, slope: Tensor, rate: float) -> Gaussian:
    """q one step on, by the gradients (n, D) at x (n, D)."""
    norm = slope.norm(dim=-1, keepdim=True)
    slope = slope * (_LARGEST_GRADIENT * norm.median() / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1.0)
    regressors = torch.cat([torch.ones_like(x[:, :1]), x], -1)
    ridge = 1e-6 * len(x) * torch.eye(regressors.shape[1], dtype=x.dtype, device=x.device)
    solution = torch.linalg.solve(regressors.mT @ regressors + ridge, regressors.mT @ slope)
    a, precision = solution[0], -(solution[1:] + solution[1:].mT) / 2
    eye = torch.eye(len(a), dtype=x.dtype, device=x.device)
    values, vectors = torch.linalg.eigh((1 - rate) * eye + rate * precision)
    values = values.clamp(1 / _CHANGE, _CHANGE)
    step = rate * (vectors @ ((vectors.mT @ a) / values))
    step = step * (2 * math.sqrt(len(a)) / step.norm().clamp(min=1e-30)).clamp(max=1.0)
    factor = torch.linalg.cholesky(vectors @ torch.diag(1 / values) @ vectors.mT)
    found = Gaussian(q.mean + q.scale @ step, q.scale @ factor)
    return found if found.mean.isfinite().all() and found.scale.norm() < _WIDEST else q


def _towards(q: Gaussian, x: Tensor) -> Gaussian:
    """Where too few points are finite: half as wide, and nearer to those that are."""
    mean = q.mean + q.scale @ x.mean(0) if len(x) else q.mean
    return Gaussian(mean, q.scale / 2)
