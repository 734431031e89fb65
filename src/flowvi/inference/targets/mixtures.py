"""Mixtures of round Gaussians on a rotated grid, whose modes' masses have a closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from flowvi.inference.targets.rotations import rotation
from flowvi.inference.targets.target import Difficulty, Mode, Target

__all__ = ["mixture"]


def mixture(
    dim: int, grid: tuple[int, int], spacing: float, weights: Sequence[float], scales: Sequence[float], shift: float,
    layout: str,
) -> Target:  # fmt: skip
    """exp(shift) Σₖ wₖ sₖ⁻ᴰ exp(−|x − cₖ|²/2sₖ²), with the centres on a grid in a rotated plane, Σ w = 1.

    ln Z = shift + ½ D ln 2π. A mode is the cell of the grid around a centre, borders halfway: its mass is not
    quite wₖ where neighbours overlap, but Σₖ wₖ ∏ (Φ((b − cₖ)/sₖ) − Φ((a − cₖ)/sₖ)) over both axes, cell (a, b).

    Args:
        dim: D, at least 2; all centres are 0 beyond the plane.
        grid: centres along each of the plane's two axes.
        spacing: between neighbours.
        weights: of each centre, the second axis running first.
        scales: s of each centre.
        shift: added to the log density.
        layout: the last part of the name.

    Example:
        >>> target = mixture(2, (2, 1), 8.0, [0.75, 0.25], [1.0, 1.0], 0.0, "far")
        >>> {name: round(mode.mass, 3) for name, mode in target.modes.items()}
        {'0_0': 0.75, '1_0': 0.25}
    """
    ticks = [(torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * spacing for count in grid]
    plane = torch.cartesian_prod(*ticks)
    weight, scale = (torch.tensor(values, dtype=torch.float64) for values in (weights, scales))
    centres = torch.cat([plane, plane.new_zeros(len(plane), dim - 2)], -1)
    turn = rotation(dim)
    log_heights = weight.log() - dim * scale.log()

    def log_density(x: Tensor) -> Tensor:
        squares = ((x @ turn.to(x))[..., None, :] - centres.to(x)).square().sum(-1)
        return shift + (log_heights.to(x) - squares / (2 * scale.to(x).square())).logsumexp(-1)

    def sample(n: int, generator: Generator | None = None) -> Tensor:
        which = torch.multinomial(weight, n, replacement=True, generator=generator)
        white = torch.randn(n, dim, generator=generator, dtype=torch.float64)
        return (centres[which] + scale[which, None] * white) @ turn.T

    count = len(plane)
    equal = "equal weights" if len(set(weights)) == 1 else "unequal weights"
    return Target(
        name=f"mixture_{dim}_modes_{count}_{layout}",
        about=f"A mixture of {count} Gaussians, D = {dim}, {equal}, {spacing:g} apart, scales about {scales[0]:g}",
        dim=dim,
        log_density=log_density,
        log_z=shift + dim / 2 * math.log(2 * math.pi),
        truth="closed form",
        sample=sample,
        modes=_cells(ticks, turn, plane, weight, scale),
        difficulty=frozenset({Difficulty.MODES, *([Difficulty.DIMENSION] if dim >= 10 else [])}),
    )


def _cells(ticks: list[Tensor], turn: Tensor, plane: Tensor, weight: Tensor, scale: Tensor) -> dict[str, Mode]:
    """The modes of a grid, named by their place along both axes."""
    borders = [(axis[1:] + axis[:-1]) / 2 for axis in ticks]
    shares = []  # of each axis: of each component, what lies in each of the axis's cells: (components, cells)
    for axis, border in enumerate(borders):
        below = torch.special.ndtr((border - plane[:, axis, None]) / scale[:, None])
        below = torch.nn.functional.pad(torch.nn.functional.pad(below, (1, 0)), (0, 1), value=1)
        shares.append(below.diff(dim=-1))
    masses = torch.einsum("k,ki,kj->ij", weight, *shares)

    def mode(cell: tuple[int, int]) -> Mode:
        def contains(x: Tensor) -> Tensor:
            along = (x @ turn.to(x))[..., :2]
            places = [
                torch.bucketize(along[..., axis].contiguous(), border.to(x)) for axis, border in enumerate(borders)
            ]
            return (places[0] == cell[0]) & (places[1] == cell[1])

        return Mode(contains, masses[cell].item())

    cells = itertools.product(*(range(len(axis)) for axis in ticks))
    return {f"{i}_{j}": mode((i, j)) for i, j in cells}
