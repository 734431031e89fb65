"""Eight schools (Rubin 1981; Gelman et al., Bayesian Data Analysis, Section 5.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor

from flowvi.inference.supports import positive, real
from flowvi.inference.targets.bounded import Points, inside
from flowvi.inference.targets.target import Difficulty, Target

__all__ = ["EFFECTS", "ERRORS", "eight_schools", "pooled_schools"]

EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
"""Estimated effects of coaching."""
ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
"""Their standard errors."""

_LN_2PI = math.log(2 * math.pi)
_PRIOR = 5.0  # of μ ~ N(0, 5²) and τ ~ half-Cauchy(5)


def eight_schools(centred: bool, shift: float) -> Target:
    """y ~ N(θ, s²), θ ~ N(μ, τ²), μ ~ N(0, 5²), τ ~ half-Cauchy(5); all densities normalised.

    Centred parameters are μ, τ, θ; the others μ, τ and η = (θ − μ)/τ ~ N(0, 1), with the same ln Z. Given μ and τ,
    θ is Gaussian, and given τ so is μ: what remains is an integral over τ, done in float64.

    Example:
        >>> eight_schools(centred=False, shift=0.0).supports
        {'mu': real(), 'tau': positive(), 'eta': real(8)}
    """
    last = "theta" if centred else "eta"
    supports = {"mu": real(), "tau": positive(), last: real(len(EFFECTS))}

    def log_density(points: Points) -> Tensor:
        mu, tau, school = points["mu"], points["tau"], points[last]
        eta = (school - mu[..., None]) / tau[..., None] if centred else school
        theta = school if centred else mu[..., None] + tau[..., None] * school
        log_p = shift + _log_normal(theta, mu.new_tensor(EFFECTS), mu.new_tensor(ERRORS)).sum(-1)
        log_p = log_p - (eta.square() + _LN_2PI).sum(-1) / 2 + _log_prior(mu, tau)
        return inside(supports, points, log_p - len(EFFECTS) * tau.log() if centred else log_p)

    def sample(n: int, generator: Generator | None = None) -> Points:
        tau = _integral().draw(torch.rand(n, generator=generator, dtype=torch.float64))
        noise = torch.randn(n, 1 + len(EFFECTS), generator=generator, dtype=torch.float64)
        mean, spread = _given_tau(tau)
        mu = mean + spread * noise[:, 0]
        eta = _draw_eta(mu, tau, noise[:, 1:])
        return {"mu": mu, "tau": tau, last: mu[:, None] + tau[:, None] * eta if centred else eta}

    trouble = {Difficulty.DIMENSION, Difficulty.BOUNDED, *([Difficulty.CURVED] if centred else [])}
    return Target(
        name=f"eight_schools_{'' if centred else 'non'}centred",
        about=f"Eight schools (Rubin 1981), {'' if centred else 'non-'}centred",
        dim=2 + len(EFFECTS),
        log_density=log_density,
        log_z=shift + _integral().log_evidence,
        truth="μ and θ in closed form, τ by quadrature",
        sample=sample,
        supports=supports,
        difficulty=frozenset(trouble),
    )


def pooled_schools(shift: float) -> Target:
    """Eight schools with θ integrated out and a flat prior on ln τ: improper, since τ → 0 explains the data.

    The density of (μ, τ) approaches a constant times 1/τ there (Gelman et al., Section 5.4).

    Example:
        >>> pooled_schools(0.0).proper
        False
    """
    supports = {"mu": real(), "tau": positive()}

    def log_density(points: Points) -> Tensor:
        mu, tau = points["mu"], points["tau"]
        spread = torch.hypot(mu.new_tensor(ERRORS), tau[..., None])
        log_p = shift + _log_normal(mu[..., None], mu.new_tensor(EFFECTS), spread).sum(-1) - tau.log()
        return inside(supports, points, log_p)

    return Target(
        name="improper_schools",
        about="Eight schools, flat in ln τ (Gelman et al., Bayesian Data Analysis, Section 5.4)",
        dim=2,
        log_density=log_density,
        log_z=math.inf,
        truth="diverges as τ → 0, ∫ dτ/τ",
        sample=None,
        supports=supports,
        difficulty=frozenset({Difficulty.IMPROPER, Difficulty.BOUNDED}),
    )


@dataclass(frozen=True)
class _Integral:
    """The integral over ln τ: where the nodes are, what lies below each, and ln p(y)."""

    log_tau: Tensor
    below: Tensor
    log_evidence: float

    def draw(self, u: Tensor) -> Tensor:
        """τ by the inverse of the distribution function, linear between nodes 3e-3 apart in ln τ."""
        right = torch.searchsorted(self.below, u).clamp(1, len(self.below) - 1)
        low, high = self.below[right - 1], self.below[right]
        share = ((u - low) / (high - low)).nan_to_num(0.5)
        step = self.log_tau[1] - self.log_tau[0]
        return (self.log_tau[right - 1] + share * step).exp()


@lru_cache
def _integral() -> _Integral:
    """∫ p(y | τ) p(τ) τ dln τ by the trapezoid rule, exact for a smooth function that vanishes at both ends."""
    log_tau = torch.linspace(-38, 12, 2**14, dtype=torch.float64)
    tau = log_tau.exp()
    mean, spread = _given_tau(tau)
    # p(y | τ) = p(y | μ, τ) p(μ) / p(μ | y, τ), at any μ: here the conditional mean.
    wide = torch.hypot(tau.new_tensor(ERRORS), tau[:, None])
    log_p = _log_normal(mean[:, None], tau.new_tensor(EFFECTS), wide).sum(-1)
    log_p = log_p + _log_prior(mean, tau) + log_tau + _LN_2PI / 2 + spread.log()
    top = log_p.max()
    mass = (log_p - top).exp()
    below = torch.cat([mass.new_zeros(1), ((mass[1:] + mass[:-1]) / 2).cumsum(0)])
    step = log_tau[1] - log_tau[0]
    return _Integral(log_tau, below / below[-1], (top + (below[-1] * step).log()).item())


def _given_tau(tau: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and standard deviation of μ given y and τ, (n,) each."""
    precision = 1 / (tau.new_tensor(ERRORS).square() + tau[:, None].square())
    total = precision.sum(-1) + 1 / _PRIOR**2
    return (precision * tau.new_tensor(EFFECTS)).sum(-1) / total, total.rsqrt()


def _draw_eta(mu: Tensor, tau: Tensor, noise: Tensor) -> Tensor:
    """η given y, μ and τ, (n, 8), from standard normal noise: N(τ (y − μ)/(s² + τ²), s²/(s² + τ²))."""
    effects, errors = mu.new_tensor(EFFECTS), mu.new_tensor(ERRORS)
    wide = torch.hypot(errors, tau[:, None])
    return tau[:, None] * (effects - mu[:, None]) / wide.square() + errors / wide * noise


def _log_prior(mu: Tensor, tau: Tensor) -> Tensor:
    log_cauchy = math.log(2 / (math.pi * _PRIOR)) - (tau / _PRIOR).square().log1p()
    return log_cauchy - (mu / _PRIOR).square() / 2 - math.log(_PRIOR) - _LN_2PI / 2


def _log_normal(mean: Tensor, value: Tensor, scale: Tensor) -> Tensor:
    return -((value - mean) / scale).square() / 2 - scale.log() - _LN_2PI / 2
