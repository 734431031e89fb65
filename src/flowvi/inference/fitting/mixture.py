"""A mixture of Gaussians, one for each mode, fitted to a density by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.modes import Mode

__all__ = ["Mixture", "MixtureDistribution", "adapt", "likely", "tails"]

_LEAST = 1e-3  # weight below which a component goes
_LIKELY = 12.0  # nats of Laplace mass below the greatest: less is no start for a component
_DEGREES = 1.5, 2.5, 4.0, 8.0  # of tails that are tried
_NARROWER = 1.0, 0.85, 0.7, 0.55  # each beside the Gaussian's scale
_OLD = 20.0  # points for which a component's last scale stands, beside those that it meets


class Mixture(nn.Module):
    """Σ_k α_k N(m_k, L_k L_kᵀ), or of multivariate t; called, it gives the distribution. It has nothing to learn.

    Args:
        weights: α, (k,), summing to 1.
        means: (k, D).
        scales: lower triangular, (k, D, D).
        degrees: ν of each component; infinite for Gaussians.

    Example:
        >>> q = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[-3.0], [3.0]]), torch.ones(2, 1, 1))()
        >>> z, log_q = q.rsample_and_log_prob((5,))
        >>> torch.allclose(q.log_prob(z), log_q)
        True
    """

    weights: Tensor
    means: Tensor
    scales: Tensor

    def __init__(self, weights: Tensor, means: Tensor, scales: Tensor, degrees: float = math.inf) -> None:
        super().__init__()
        self.degrees = degrees
        self.register_buffer("weights", weights)
        self.register_buffer("means", means)
        self.register_buffer("scales", scales)

    @classmethod
    def standard(cls, like: Tensor, degrees: float = math.inf) -> Mixture:
        """One component around 0 of unit scale, for points as `like` (D,)."""
        eye = torch.eye(len(like), dtype=like.dtype, device=like.device)
        return cls(torch.ones_like(like[:1]), torch.zeros_like(like)[None], eye[None], degrees)

    def forward(self) -> MixtureDistribution:
        """The distribution."""
        return MixtureDistribution(self.weights, self.means, self.scales, self.degrees)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and covariance (D, D) of the whole, of Gaussians."""
        mean = self.weights @ self.means
        apart = self.means - mean
        spread = self.scales @ self.scales.mT + apart[:, :, None] * apart[:, None, :]
        return mean, (self.weights[:, None, None] * spread).sum(0)

    def seen(self, mean: Tensor, scale: Tensor) -> Mixture:
        """The mixture of x where z = mean + scale·x has this one; scale lower triangular, (D, D)."""
        means = torch.linalg.solve_triangular(scale, (self.means - mean).mT, upper=False).mT
        scales = torch.linalg.solve_triangular(scale, self.scales, upper=False)
        return Mixture(self.weights, means, scales, self.degrees)


class MixtureDistribution(Distribution):
    """Σ_k α_k N(m_k, L_k L_kᵀ), or of multivariate t with ν degrees, over R^D, of batch_shape ().

    ln t = ln Γ((ν + D)/2) − ln Γ(ν/2) − (D/2) ln νπ − ln|L| − (ν + D)/2 · ln(1 + r²/ν) (Kotz & Nadarajah 2004,
    Eq. 1.1), with r = ‖L⁻¹(z − m)‖. Draws are shared out to components as evenly as α allows.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (torch's own form)
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, weights: Tensor, means: Tensor, scales: Tensor, degrees: float = math.inf) -> None:
        self.weights, self.means, self.scales, self.degrees = weights, means, scales, degrees
        super().__init__(Size(), means.shape[-1:], validate_args=False)

    def with_degrees(self, degrees: float) -> MixtureDistribution:
        """The same components with tails of ν degrees, or of their own if these are heavier."""
        return MixtureDistribution(self.weights, self.means, self.scales, min(degrees, self.degrees))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (S…, D): systematic in the component (Kitagawa 1996), in a random order, so that each alone is one."""
        shape = Size(sample_shape)
        n, like = shape.numel(), self.means
        places = (torch.rand((), dtype=like.dtype, device=like.device) + torch.arange(n).to(like)) / max(n, 1)
        which = torch.searchsorted(self.weights.cumsum(0), places).clamp(max=len(self.weights) - 1)
        which = which[torch.randperm(n, device=which.device)]
        noise = torch.randn(n, like.shape[-1], dtype=like.dtype, device=like.device)
        if math.isfinite(self.degrees):
            half = torch.full_like(noise[:, :1], self.degrees / 2)
            noise = noise / (torch._standard_gamma(half) / half).sqrt()
        z = self.means[which] + (self.scales[which] @ noise[..., None])[..., 0]
        return z.reshape(*shape, z.shape[-1])

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        """Draws (S…, D), which have no gradient, and their log density (S…,), in nats."""
        z = self.sample(sample_shape)
        return z, self.log_prob(z)

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(value), (S…,), in nats, at any points (S…, D)."""
        return (self.weights.log() + self.of_components(value)).logsumexp(-1)

    def of_components(self, value: Tensor) -> Tensor:
        """The log density of each component, (S…, k)."""
        dim = value.shape[-1]
        apart = (value.reshape(-1, 1, dim) - self.means).movedim(0, -1)  # (k, D, n)
        square = torch.linalg.solve_triangular(self.scales, apart, upper=False).square().sum(-2).mT
        log_det = self.scales.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        nu = self.degrees
        if math.isfinite(nu):
            constant = math.lgamma((nu + dim) / 2) - math.lgamma(nu / 2) - 0.5 * dim * math.log(nu * math.pi)
            log_q = constant - 0.5 * (nu + dim) * (square / nu).log1p() - log_det
        else:
            log_q = -0.5 * (square + dim * math.log(2 * math.pi)) - log_det
        out: Tensor = log_q.reshape(*value.shape[:-1], len(self.means))
        return out


def likely(modes: Sequence[Mode]) -> list[Mode]:
    """Those whose Laplace mass, the greatest first, is not negligible: it may be wrong by orders."""
    return [mode for mode in modes if mode.log_mass > modes[0].log_mass - _LIKELY]


@torch.no_grad()
def tails(density: Density, mean: Tensor, scale: Tensor, draws: int) -> tuple[float, float]:
    """The degrees of freedom and the factor on a Gaussian's scale with which a multivariate t has the highest ELBO.

    Infinite degrees and 1 where no t is better than the Gaussian by twice its error.

    Args:
        density: over unconstrained points.
        mean: of the Gaussian, (D,).
        scale: of the Gaussian, lower triangular, (D, D).
        draws: for each ELBO.
    """
    log_det = scale.diagonal().log().sum()

    def value(degrees: float, factor: float) -> tuple[float, float]:
        x, log_q = Mixture.standard(mean, degrees)().rsample_and_log_prob((draws,))
        log_w = density(mean + factor * x @ scale.mT) - log_q + log_det + len(mean) * math.log(factor)
        if not log_w.isfinite().all():
            return -math.inf, 0.0
        return log_w.mean().item(), log_w.std().item() / math.sqrt(draws)

    gaussian, error = value(math.inf, 1.0)
    (best, se), chosen = max((value(*pair), pair) for pair in product(_DEGREES, _NARROWER))
    return chosen if best - gaussian > max(2 * math.hypot(se, error), 0.01) else (math.inf, 1.0)


@torch.no_grad()
def adapt(density: Density, modes: Sequence[Mode], rounds: int, draws: int) -> Mixture:
    """A mixture with a component for each mode, started at the Laplace approximations and their masses.

    Each round draws from q and moves it by the EM step that weighted draws w = f/q give: α_k = Σ w ρ_k, with ρ_k the
    component's responsibility, and likewise its mean and covariance, which lowers KL(f/Z ‖ q) (Cappé et al. 2008,
    arXiv:0710.4242, Eq. 13 to 15). A component's scale counts as 20 draws of its own, so that few do not collapse it.

    Args:
        density: over unconstrained points.
        modes: with the greatest Laplace mass first; at least one.
        rounds: of adaptation.
        draws: of each round.
    """
    chosen = likely(modes)
    log_mass = torch.tensor([mode.log_mass for mode in chosen]).to(chosen[0].mean)
    means, scales = (torch.stack([getattr(mode, name) for mode in chosen]) for name in ("mean", "scale"))
    # masses that Laplace has wrong by orders must not leave a mode without draws
    q = Mixture((0.5 * log_mass).softmax(0), means, 1.2 * scales)
    for _ in range(rounds):
        z, log_q = q().rsample_and_log_prob((draws,))
        log_w = density(z) - log_q
        good = log_w.isfinite()
        if good.sum() < len(means) + 2:
            break
        q = _moved(q, z[good], log_w[good])
    return q


def _moved(q: Mixture, z: Tensor, log_w: Tensor) -> Mixture:
    """One EM step by points z (n, D) with log weights (n,)."""
    distribution = q()
    shares = (q.weights.log() + distribution.of_components(z)).softmax(-1)
    pull = (log_w.softmax(0)[:, None] * shares).mT  # (k, n), summing to 1
    mass = pull.sum(-1)
    kept = mass > _LEAST
    pull, mass, old = pull[kept], mass[kept], q.scales[kept]
    effective = mass.square() / pull.square().sum(-1)
    inside = pull / mass[:, None]
    trust = (effective / (effective + _OLD))[:, None]
    means = trust * (inside @ z) + (1 - trust) * q.means[kept]
    apart = z - means[:, None]
    spread = (inside[:, :, None] * apart).mT @ apart
    covariance = trust[..., None] * spread + (1 - trust[..., None]) * old @ old.mT
    scales, failed = torch.linalg.cholesky_ex(covariance)
    scales = torch.where(failed[:, None, None] > 0, old, scales)
    return Mixture(mass / mass.sum(), means, scales)
