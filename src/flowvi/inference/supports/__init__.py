"""Constrained supports: bijections from R^D onto the positive numbers, intervals, the simplex and so on.

`Supported(flow, support)` pushes any flow onto a support.
"""

from __future__ import annotations

from flowvi.inference.supports.bijections import (
    Support,
    correlation_cholesky,
    interval,
    ordered,
    positive,
    real,
    simplex,
    unit_interval,
)
from flowvi.inference.supports.supported import Supported, SupportedDistribution

__all__ = [
    "Support",
    "Supported",
    "SupportedDistribution",
    "correlation_cholesky",
    "interval",
    "ordered",
    "positive",
    "real",
    "simplex",
    "unit_interval",
]
