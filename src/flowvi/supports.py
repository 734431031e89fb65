"""Constrained supports, as `flowvi.supports`: see `flowvi.inference.supports`."""

from __future__ import annotations

from flowvi.inference.supports import *  # noqa: F403
from flowvi.inference.supports import __all__ as __all__
