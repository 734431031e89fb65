"""Log densities that are not torch's, as `flowvi.adapters`: see `flowvi.inference.adapters`."""

from __future__ import annotations

from flowvi.inference.adapters import *  # noqa: F403
from flowvi.inference.adapters import __all__ as __all__
