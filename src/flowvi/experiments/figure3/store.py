"""The files of Figure 3: a line for each restart in `figure3.jsonl`, the trained flows to draw in `figure3.npz`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flowvi.errors import RunError
from flowvi.experiments.figure3.cells import FLOWS, Cell
from flowvi.experiments.lines import read_lines, write_lines
from flowvi.experiments.run import atomic_write
from flowvi.experiments.turns import in_turn
from flowvi.flows import Flow, build

__all__ = ["Store"]

Record = dict[str, Any]
_KEYS = {"energy", "flow", "length", "seed", "kl", "ln_z", "budget"}


class Store:
    """What a folder holds of the figure.

    Args:
        folder: of the files; need not exist.

    Raises:
        RunError: the files cannot be read.

    Example:
        >>> Store(Path("nowhere")).records
        []
    """

    records: list[Record]
    _arrays: dict[str, Any]

    def __init__(self, folder: Path) -> None:
        self.lines, self.weights = folder / "figure3.jsonl", folder / "figure3.npz"
        self._read()

    def check_budget(self, budget: str) -> None:
        """A folder is of one budget, so that a smoke test cannot take the place of a measurement.

        Raises:
            RunError: there are results of another one.
        """
        others = {record["budget"] for record in self.records} - {budget}
        if others:
            found = " and ".join(sorted(map(str, others)))
            raise RunError(f"{self.lines} holds results of --budget {found}: choose another --out")

    def has(self, cell: Cell) -> bool:
        """Whether all restarts of a cell are on file, made with its settings."""
        found = {record["seed"] for record in self._of(cell) if _settings(record) == _settings_of(cell)}
        return found >= set(range(cell.restarts)) and any(key.startswith(f"{cell.name}/") for key in self._arrays)

    def add(self, cell: Cell, records: Sequence[Record], flow: Flow) -> None:
        """Put a cell's restarts on file, in place of what was there of it, with the flow that stands for them.

        What others have put there since stays.

        Raises:
            RunError: a file cannot be read or written, or others have put results of another budget there.
        """
        with in_turn(self.lines):
            self._read()
            for record in records:
                self.check_budget(record["budget"])
            kept = {key: array for key, array in self._arrays.items() if not key.startswith(f"{cell.name}/")}
            state = {f"{cell.name}/{key}": value.numpy() for key, value in flow.state_dict().items()}
            self._arrays = {**kept, **state}
            with atomic_write(self.weights) as file:
                np.savez_compressed(file, **dict(sorted(self._arrays.items())))
            others = [record for record in self.records if record not in self._of(cell)]
            self.records = sorted([*others, *records], key=_place)
            write_lines(self.lines, self.records)

    def flow(self, energy: str, flow: str, length: int) -> Flow | None:
        """The flow that stands for a cell, that of median KL, in float64; None where there is none.

        Raises:
            RunError: what is on file is not such a flow's.
        """
        start = f"{energy}/{flow}/{length}/"
        state = {key.removeprefix(start): array for key, array in self._arrays.items() if key.startswith(start)}
        if not state:
            return None
        made = build(FLOWS[flow].kind, 2, length=length, **FLOWS[flow].options)
        try:
            made.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
        except RuntimeError as error:
            raise RunError(f"{self.weights} does not hold a {flow} flow as {start[:-1]}: remove it") from error
        return made.double()

    def _read(self) -> None:
        self.records = read_lines(self.lines)
        for record in self.records:
            if not record.keys() >= _KEYS or record["flow"] not in FLOWS:
                raise RunError(f"{self.lines} holds what is no result of figure 3: remove it, or choose another --out")
        self._arrays = _arrays(self.weights)

    def _of(self, cell: Cell) -> list[Record]:
        return [
            record
            for record in self.records
            if (record["energy"], record["flow"], record["length"]) == (cell.energy, cell.flow, cell.length)
        ]


def _settings(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(key) for key in ("updates", "batch", "learning_rate"))


def _settings_of(cell: Cell) -> tuple[Any, ...]:
    return cell.scheme.updates, cell.scheme.batch, cell.scheme.learning_rate


def _place(record: Record) -> tuple[Any, ...]:
    return record["energy"], list(FLOWS).index(record["flow"]), record["length"], record["seed"]


def _arrays(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        with np.load(path) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path} ({error}): remove it, or name another folder") from error
