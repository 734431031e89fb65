"""The named data sets and the binarisations. Imports neither torch nor numpy.

A new data set is one module with a `read() -> Source` and one line here.
"""

from __future__ import annotations

__all__ = ["BINARISATIONS", "DATASETS"]

DATASETS: dict[str, str] = {
    "mnist": "flowvi.data.mnist:read",
}
"""The data sets by name, each as `module:reader`."""

BINARISATIONS: tuple[str, ...] = ("fixed", "dynamic", "threshold")
"""How grey levels become binary pixels; see `load`."""
