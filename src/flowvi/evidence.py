"""The evidence of a posterior, as `flowvi.evidence`: see `flowvi.inference.evidence`."""

from __future__ import annotations

from flowvi.inference.evidence import *  # noqa: F403
from flowvi.inference.evidence import __all__ as __all__
