"""Chains as single calls. `reference` is the definition, in plain torch; fused kernels must equal it."""

from __future__ import annotations

from flowvi.kernels.reference import (
    householder_forward,
    householder_inverse,
    planar_forward,
    planar_inverse,
    radial_forward,
    radial_inverse,
)

__all__ = [
    "householder_forward",
    "householder_inverse",
    "planar_forward",
    "planar_inverse",
    "radial_forward",
    "radial_inverse",
]
