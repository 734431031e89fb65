"""The named data sets and the binarisations. Imports neither torch nor numpy.

A new data set is one module with a `read() -> Source`, and here a line for it and one for its licence.
"""

from __future__ import annotations

__all__ = ["BINARISATIONS", "DATASETS", "LICENCES"]

DATASETS: dict[str, str] = {
    "mnist": "flowvi.data.mnist:read",
}
"""The data sets by name, each as `module:reader`."""

LICENCES: dict[str, str] = {
    "mnist": "MNIST (Yann LeCun, Corinna Cortes, Christopher J. C. Burges), CC BY-SA 3.0",
}
"""Under what each may be passed on, and whose it is; what a model card says of it."""

BINARISATIONS: tuple[str, ...] = ("fixed", "dynamic", "threshold")
"""How grey levels become binary pixels; see `load`."""
