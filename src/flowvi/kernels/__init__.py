"""Chains of bijections as single calls. `reference` is the definition, in plain torch; fused kernels must equal it."""

from __future__ import annotations

from flowvi.kernels.reference import planar_forward, planar_inverse

__all__ = ["planar_forward", "planar_inverse"]
