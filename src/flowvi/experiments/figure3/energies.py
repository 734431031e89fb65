"""The four energies of Rezende & Mohamed 2015, Section 6.1 and Table 1, confined so that each is a density on ℝ²."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ENERGIES", "Energy"]

EDGE, SOFTNESS = 4.0, 0.1  # of the box, (−4, 4)² in the paper


@dataclass(frozen=True)
class Energy:
    """A target on the plane, p̃(z) ∝ exp(−U(z) − ½ Σ_i (relu(|z_i| − 4)/0.1)²).

    Without the second term exp(−U2) to exp(−U4) would not fall off in z1: densities on the box alone, from which any
    flow has an infinite KL.

    Attributes:
        name: `U1` to `U4`.
        potential: U, (…, 2) -> (…), in nats.
        regions: where the modes lie, by name: (…, 2) -> (…) of bool.

    Example:
        >>> round(ENERGIES["U2"].log_density(torch.tensor([1.0, 1.4])).item(), 3)  # −½ [(1.4 − sin(π/2))/0.4]²
        -0.5
    """

    name: str
    potential: Callable[[Tensor], Tensor]
    regions: Mapping[str, Callable[[Tensor], Tensor]]

    def log_density(self, z: Tensor) -> Tensor:
        """ln p̃(z) up to a constant, in nats: (…, 2) -> (…)."""
        beyond = (z.abs() - EDGE).relu() / SOFTNESS
        return -self.potential(z) - 0.5 * beyond.square().sum(-1)


def _w1(z1: Tensor) -> Tensor:
    return torch.sin(2 * math.pi * z1 / 4)


def _w2(z1: Tensor) -> Tensor:
    return 3 * torch.exp(-0.5 * ((z1 - 1) / 0.6).square())


def _w3(z1: Tensor) -> Tensor:
    step: Tensor = 3 * torch.sigmoid((z1 - 1) / 0.3)
    return step


def _u1(z: Tensor) -> Tensor:
    z1 = z[..., 0]
    ring: Tensor = 0.5 * ((torch.linalg.vector_norm(z, dim=-1) - 2) / 0.4).square()
    sides = torch.logaddexp(-0.5 * ((z1 - 2) / 0.6).square(), -0.5 * ((z1 + 2) / 0.6).square())
    return ring - sides


def _u2(z: Tensor) -> Tensor:
    z1, z2 = z.unbind(-1)
    return 0.5 * ((z2 - _w1(z1)) / 0.4).square()


def _u3(z: Tensor) -> Tensor:
    z1, z2 = z.unbind(-1)
    wave = z2 - _w1(z1)
    return -torch.logaddexp(-0.5 * (wave / 0.35).square(), -0.5 * ((wave + _w2(z1)) / 0.35).square())


def _u4(z: Tensor) -> Tensor:
    z1, z2 = z.unbind(-1)
    wave = z2 - _w1(z1)
    return -torch.logaddexp(-0.5 * (wave / 0.4).square(), -0.5 * ((wave + _w3(z1)) / 0.35).square())


def _halves() -> dict[str, Callable[[Tensor], Tensor]]:
    return {"left": lambda z: z[..., 0] < 0, "right": lambda z: z[..., 0] > 0}


def _branches(split: Callable[[Tensor], Tensor], low: float, high: float) -> dict[str, Callable[[Tensor], Tensor]]:
    """Above and below the middle of the two branches, which lie `split` apart, for low < z1 < high."""

    def where(z: Tensor, above: bool) -> Tensor:
        z1, z2 = z.unbind(-1)
        upper = z2 > _w1(z1) - split(z1) / 2
        return (z1 > low) & (z1 < high) & (upper if above else ~upper)

    return {"upper": lambda z: where(z, True), "lower": lambda z: where(z, False)}


ENERGIES: Mapping[str, Energy] = {
    "U1": Energy("U1", _u1, _halves()),
    "U2": Energy("U2", _u2, _halves()),
    "U3": Energy("U3", _u3, _branches(_w2, 0.0, 2.0)),
    "U4": Energy("U4", _u4, _branches(_w3, 2.0, math.inf)),
}
"""The paper's U1 to U4. Modes: the halves of U1 and U2; the branches of U3 for 0 < z1 < 2, and of U4 for z1 > 2."""
