"""Targets that are Gaussian: rotated ones of any condition number, and the latent values of a Gaussian process."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from flowvi.inference.targets.rotations import rotation
from flowvi.inference.targets.target import Difficulty, Target

__all__ = ["gaussian", "gaussian_process"]


def gaussian(dim: int, condition: float, shift: float) -> Target:
    """exp(shift − ½ (z − m)ᵀ Σ⁻¹ (z − m)), Σ rotated, its eigenvalues from 1 down to 1/condition, geometric.

    ln Z = shift + ½ (D ln 2π + ln|Σ|).

    Example:
        >>> gaussian(10, 100.0, 0.5).name
        'gaussian_10_condition_1e2'
    """
    mean = torch.linspace(-2, 3, dim, dtype=torch.float64)
    scale = condition ** (-0.5 * torch.linspace(0, 1, dim, dtype=torch.float64))
    turn = rotation(dim)

    def log_density(z: Tensor) -> Tensor:
        white = (z - mean.to(z)) @ turn.to(z) / scale.to(z)
        return shift - white.square().sum(-1) / 2

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        return mean + (scale * torch.randn(n, dim, generator=generator, dtype=torch.float64)) @ turn.T

    difficulty = {Difficulty.DIMENSION} if dim >= 10 else set()
    return Target(
        name=f"gaussian_{dim}_condition_1e{math.log10(condition):.0f}",
        about=f"A Gaussian, D = {dim}, condition number {condition:g}, rotated at random",
        dim=dim,
        log_density=log_density,
        log_z=shift + dim / 2 * math.log(2 * math.pi) + scale.log().sum().item(),
        truth="closed form",
        sample=sample,
        difficulty=frozenset(difficulty | ({Difficulty.SCALE} if condition >= 100 else set())),
    )


def gaussian_process(shift: float) -> Target:
    """The latent values f of a Gaussian process at 12 inputs x, given y = f + noise; both densities normalised.

    K is the Matérn kernel of smoothness 3/2, (1 + √3 r/ℓ) exp(−√3 r/ℓ), ℓ = ½. ln Z = shift + ln N(y; 0, K + s² I),
    and f given y is N(K (K + s² I)⁻¹ y, (K⁻¹ + I/s²)⁻¹) (Rasmussen & Williams 2006, Sections 2.2 and 4.2.1).

    Example:
        >>> gaussian_process(0.0).dim
        12
    """
    n, noise = 12, 0.2
    x = torch.linspace(0, 1, n, dtype=torch.float64)
    y = (6 * x).sin() + noise * (40 * x).cos()
    r = math.sqrt(3) * (x[:, None] - x).abs() / 0.5
    prior = (1 + r) * (-r).exp()
    eye = torch.eye(n, dtype=torch.float64)
    whiten = torch.linalg.inv(torch.linalg.cholesky(prior))
    precision = whiten.T @ whiten + eye / noise**2
    mean = torch.linalg.solve(precision, y / noise**2)
    spread = torch.linalg.inv(torch.linalg.cholesky(precision)).T
    log_prior = whiten.diagonal().log().sum().item() - n / 2 * math.log(2 * math.pi)
    log_noise = -n * math.log(noise) - n / 2 * math.log(2 * math.pi)

    def log_density(f: Tensor) -> Tensor:
        misfit = (y.to(f) - f) / noise
        squares = (f @ whiten.T.to(f)).square().sum(-1) + misfit.square().sum(-1)
        log_p: Tensor = shift + log_prior + log_noise - squares / 2
        return log_p

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        draws: Tensor = mean + torch.randn(n, len(y), generator=generator, dtype=torch.float64) @ spread.T
        return draws

    evidence = torch.distributions.MultivariateNormal(0 * y, prior + noise**2 * eye, validate_args=False)
    return Target(
        name="gaussian_process",
        about="Gaussian process regression: 12 latent values, Matérn kernel (Rasmussen & Williams 2006)",
        dim=n,
        log_density=log_density,
        log_z=shift + evidence.log_prob(y).item(),
        truth="closed form",
        sample=sample,
        difficulty=frozenset({Difficulty.DIMENSION}),
    )
