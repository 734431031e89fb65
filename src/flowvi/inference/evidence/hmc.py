"""Hamiltonian Monte Carlo on the geometric path from an initial density to a target, many chains at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowvi.errors import ConfigError, ShapeError

__all__ = ["Path", "Point", "transition"]

Density = Callable[[Tensor], Tensor]

JITTER = 0.2  # each trajectory's step is off by up to so much, or its length might be a period of the target


@dataclass(frozen=True)
class Point:
    """Where the chains are, (chains, batch…, D), with both log densities there, float64, and their gradients."""

    z: Tensor
    log_initial: Tensor
    """(chains, batch…); −inf where it is NaN or infinite."""
    log_target: Tensor
    gradient_initial: Tensor
    gradient_target: Tensor

    @property
    def difference(self) -> Tensor:
        """ln f*(z) − ln q(z), the derivative of ln f_β by β; −inf where the target is nought."""
        return self.log_target - self.log_initial

    def log_density(self, beta: float) -> Tensor:
        """ln f_β = (1 − β) ln q + β ln f*, for 0 < β < 1."""
        return (1 - beta) * self.log_initial + beta * self.log_target

    def gradient(self, beta: float) -> Tensor:
        """∂ ln f_β/∂z."""
        return (1 - beta) * self.gradient_initial + beta * self.gradient_target

    def or_else(self, keep: Tensor, other: Point) -> Point:
        """This point for the chains of `keep`, (chains, batch…), the other for the rest."""
        wide = keep[..., None]
        return Point(
            torch.where(wide, self.z, other.z),
            torch.where(keep, self.log_initial, other.log_initial),
            torch.where(keep, self.log_target, other.log_target),
            torch.where(wide, self.gradient_initial, other.gradient_initial),
            torch.where(wide, self.gradient_target, other.gradient_target),
        )


@dataclass(frozen=True)
class Path:
    """f_β(z) = q(z)^(1−β)·f*(z)^β, both given by their logarithms (Neal 2001, arXiv:physics/9803008, Eq. 3).

    Args:
        log_initial: ln q: (chains, batch…, D) -> (chains, batch…).
        log_target: ln f*, likewise; not normalised.
    """

    log_initial: Density
    log_target: Density

    def at(self, z: Tensor) -> Point:
        """Both densities and their gradients.

        Points that are not finite are not shown to the densities, which may refuse them: they have the density 0.

        Raises:
            ShapeError: a density does not give one number for each point.
            ConfigError: a density has no gradient.
        """
        finite = z.isfinite().all(-1)
        shown = torch.where(finite[..., None], z, 0)
        log_initial, gradient_initial = _value_and_gradient(self.log_initial, shown, "initial")
        log_target, gradient_target = _value_and_gradient(self.log_target, shown, "target")
        nowhere = torch.tensor(-torch.inf, dtype=torch.float64, device=z.device)
        return Point(
            z,
            torch.where(finite & log_initial.isfinite(), log_initial, nowhere),
            torch.where(finite & log_target.isfinite(), log_target, nowhere),
            gradient_initial,
            gradient_target,
        )


def transition(path: Path, point: Point, beta: float, step: Tensor, leapfrog: int) -> tuple[Point, Tensor]:
    """One HMC update, which leaves f_β as it is (Neal 2011, *MCMC using Hamiltonian dynamics*, Section 3.2).

    With r ~ N(0, I):  r += ½ε∘∇ln f_β(z), then `leapfrog` times  z += ε∘r,  r += ε∘∇ln f_β(z),  the last half as
    long; accepted with probability min(1, f_β(z′) e^(−½‖r′‖²) / f_β(z) e^(−½‖r‖²)). A step for each dimension is a
    diagonal mass matrix. Where the density is 0, infinite or NaN a proposal is rejected.

    Args:
        path: the densities.
        point: where the chains are.
        beta: 0 < β < 1.
        step: ε, (batch…, D); each trajectory has its own, up to 20 % off.
        leapfrog: number of steps.

    Returns:
        The point after it, and the probability of acceptance, (chains, batch…), float64.
    """
    step = step * (1 + JITTER * (2 * torch.rand_like(point.z[..., :1]) - 1))
    momentum = torch.randn_like(point.z)
    energy = point.log_density(beta) - _kinetic(momentum)
    new, momentum = point, momentum + 0.5 * step * point.gradient(beta)
    for i in range(leapfrog):
        new = path.at(new.z + step * momentum)
        momentum = momentum + (step if i < leapfrog - 1 else 0.5 * step) * new.gradient(beta)
    log_ratio = new.log_density(beta) - _kinetic(momentum) - energy
    possible = new.log_density(beta).isfinite()
    probability = torch.where(possible, log_ratio.clamp(max=0).exp(), 0).nan_to_num(nan=0.0)
    accepted = torch.rand_like(probability) < probability
    return new.or_else(accepted, point), probability


def _kinetic(momentum: Tensor) -> Tensor:
    return 0.5 * momentum.double().square().sum(-1)


def _value_and_gradient(density: Density, z: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """ln f, (chains, batch…), float64, and ∂ ln f/∂z, of z's shape and dtype."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = density(z)
        if value.shape != z.shape[:-1]:
            raise ShapeError(
                f"the {name} log density gives {tuple(value.shape)} for points of shape {tuple(z.shape)}: "
                f"expected {tuple(z.shape[:-1])}"
            )
        gradient = torch.autograd.grad(value.sum(), z, allow_unused=True)[0] if value.requires_grad else None
    if gradient is None:
        raise ConfigError(f"the {name} log density has no gradient in z, which HMC needs: compute it with torch")
    return value.detach().double(), gradient
