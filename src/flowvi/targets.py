"""Targets with known answers, as `flowvi.targets`: see `flowvi.inference.targets`."""

from __future__ import annotations

from flowvi.inference.targets import *  # noqa: F403
from flowvi.inference.targets import __all__ as __all__
