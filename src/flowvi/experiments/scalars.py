"""Metrics for TensorBoard, where its extra is installed; nothing otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["Scalars"]


class Scalars:
    """Writes to `folder` if TensorBoard is there; events later than `update`, of an interrupted run, are dropped."""

    def __init__(self, folder: Path, update: int) -> None:
        self._writer: Any = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=update + 1)

    def add(self, record: Mapping[str, float]) -> None:
        """Add every value of one line of metrics."""
        if self._writer is not None:
            for name, value in record.items():
                if name != "update":
                    self._writer.add_scalar(name, value, int(record["update"]))

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
