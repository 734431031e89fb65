"""The data room: the shipped data sets, their binarisation and splits, and a user's own arrays."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowvi.data.dataset import Dataset, Images, Levels
    from flowvi.data.loading import load
    from flowvi.data.patches import Patches
    from flowvi.data.registry import BINARISATIONS, DATASETS
    from flowvi.data.streams import epoch_order

__all__ = ["BINARISATIONS", "DATASETS", "Dataset", "Images", "Levels", "Patches", "epoch_order", "load"]

_HOMES = {
    "BINARISATIONS": "registry",
    "DATASETS": "registry",
    "Dataset": "dataset",
    "Images": "dataset",
    "Levels": "dataset",
    "Patches": "patches",
    "epoch_order": "streams",
    "load": "loading",
}


def __getattr__(name: str) -> Any:
    """Import a public name upon its first use (PEP 562), so that a config check imports no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
