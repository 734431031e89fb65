"""Arrays on file. Imports no torch."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flowvi.errors import RunError

__all__ = ["read_arrays"]


def read_arrays(path: Path, cure: str) -> dict[str, npt.NDArray[Any]]:
    """All arrays of an `.npz` file, by name.

    Raises:
        RunError: it cannot be read; the message ends in `cure`.
    """
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(f"cannot read {path} ({error}): {cure}") from error
