"""Constrained supports: bijections from R^D onto the positive numbers, intervals, the simplex and so on.

`Supported(flow, support)` pushes any flow onto a support.
"""

from __future__ import annotations

from flowvi.inference.supports.correlations import correlation_cholesky
from flowvi.inference.supports.increasing import ordered
from flowvi.inference.supports.intervals import interval, unit_interval
from flowvi.inference.supports.reals import positive, real
from flowvi.inference.supports.simplices import simplex
from flowvi.inference.supports.support import Support
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
