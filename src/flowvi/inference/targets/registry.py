"""The targets, by name, and which of them are held out.

Each kind of trouble (`Difficulty`) stands on both sides, by another member of its family: of two dimensions, shapes
or weights one is for calibration and one is held out. The Gaussians alternate as the fields of a chessboard do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from flowvi.inference.targets.bounded import beta, conjugate_normal, dirichlet, gamma, lkj, order_statistics
from flowvi.inference.targets.curved import banana, funnel, ring, rosenbrock
from flowvi.inference.targets.edges import annulus, half_gaussian, nan_disc, nan_gamma, staircase, step
from flowvi.inference.targets.gaussians import gaussian, gaussian_process
from flowvi.inference.targets.improper import flat, ridge, slow_tail
from flowvi.inference.targets.logistic import logistic_regression
from flowvi.inference.targets.mixtures import mixture
from flowvi.inference.targets.schools import eight_schools, pooled_schools
from flowvi.inference.targets.tails import log_gamma, quartic, skew_normal, student
from flowvi.inference.targets.target import Target

__all__ = ["TARGETS"]

# Every density is shifted by a constant of its own, so that no ln Z is 0 by accident.
_CALIBRATION = (
    gaussian(2, 1.0, -1.7),
    gaussian(2, 1e4, 0.4),
    gaussian(10, 1e2, 2.1),
    gaussian(100, 1.0, -3.3),
    gaussian(100, 1e4, 5.2),
    funnel(2, 1.3),
    banana(-0.8),
    rosenbrock(3, 2, 0.9),
    student(1, -0.6),
    student(10, 1.9),
    quartic(2, -2.4),
    skew_normal(10, 0.7),
    mixture(2, (2, 1), 3.0, [0.5, 0.5], [1.0, 1.0], 1.1, "close"),
    mixture(2, (2, 2), 8.0, [0.25] * 4, [0.7] * 4, -1.4, "far"),
    mixture(2, (4, 2), 6.0, [0.22, 0.08, 0.05, 0.15, 0.1, 0.2, 0.12, 0.08], [0.8, 0.6, 1.0, 0.7] * 2, 2.3, "far"),
    eight_schools(centred=False, shift=1.5),
    gaussian_process(-2.2),
    beta(0.6, 3.0, 0.3),
    dirichlet((0.7, 2.0, 5.0), -1.2),
    lkj(3, 2.0, 0.8),
    conjugate_normal(1.6),
    step(-0.9),
    half_gaussian(2.6),
    nan_gamma(-1.1),
    flat(1.5),
    pooled_schools(-0.7),
)
_HELD_OUT = (
    gaussian(2, 1e2, 3.1),
    gaussian(10, 1.0, -0.5),
    gaussian(10, 1e4, 1.2),
    gaussian(100, 1e2, -2.8),
    funnel(10, -1.6),
    rosenbrock(2, 1, -2.1),
    ring(4.0, 0.5, 0.6),
    student(2, 2.7),
    quartic(10, 1.4),
    log_gamma(-1.9),
    mixture(2, (2, 1), 10.0, [0.8, 0.2], [1.0, 0.5], -0.4, "far"),
    mixture(2, (2, 2), 3.0, [0.4, 0.3, 0.2, 0.1], [0.8, 0.6, 0.7, 0.5], 0.5, "close"),
    mixture(2, (4, 2), 4.0, [0.125] * 8, [0.6] * 8, -3.0, "near"),
    mixture(10, (2, 1), 8.0, [0.7, 0.3], [1.0, 0.8], 1.8, "far"),
    eight_schools(centred=True, shift=-2.5),
    logistic_regression(3.4),
    gamma(2.5, 1.5, -0.3),
    dirichlet((3.0, 0.5, 1.0, 2.0, 0.8), 2.2),
    order_statistics(4, -1.3),
    staircase(0.2),
    annulus(-1.8),
    nan_disc(1.7),
    ridge(-0.2),
    slow_tail(0.9),
)

TARGETS: Mapping[str, Target] = MappingProxyType(
    {target.name: target for target in (*_CALIBRATION, *(replace(target, held_out=True) for target in _HELD_OUT))}
)
"""Every target by its name."""
