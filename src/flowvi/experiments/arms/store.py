"""The files of a comparison: a result a line in `NAME.jsonl`, and its values for each test image in `NAME.npz`.

A comparison of trainings alone has no values for images, and no second file.

Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowvi.errors import RunError
from flowvi.experiments.arrays import read_arrays
from flowvi.experiments.lines import read_lines, write_lines
from flowvi.experiments.run import atomic_write
from flowvi.experiments.turns import in_turn

__all__ = ["Images", "Record", "Store", "filled"]

Record = dict[str, Any]
_AGAIN = "remove the result beside it, and it is made again"
_REMOVE = "remove it, or name another folder"
_KEYS = {"arms", "budget", "config_hash", "seed"}


class Images(NamedTuple):
    """The values of one result for each test image; `row` is the image's number in the test set."""

    seed: int
    row: npt.NDArray[np.integer]
    free_energy: npt.NDArray[np.floating]
    nll: npt.NDArray[np.floating]


class Store:
    """What a folder holds of a comparison. A result names the arms that it stands for, its budget and overrides.

    Args:
        folder: of the files; need not exist.
        name: of the comparison, and of its files.

    Raises:
        RunError: the files cannot be read.

    Example:
        >>> Store(Path("nowhere"), "figure4").records
        []
    """

    records: list[Record]
    _images: dict[str, Images]

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.lines, self.arrays = folder / f"{name}.jsonl", folder / f"{name}.npz"
        self._waiting: dict[str, tuple[Record, Images | None]] = {}
        self._read()

    def check(self, budget: str, overrides: Mapping[str, Any] | None) -> None:
        """A folder is of one budget and of the same overrides, so that a smoke test takes no measurement's place.

        Raises:
            RunError: there are results of others.
        """
        for record in self.records:
            if (record["budget"], record.get("overrides")) != (budget, _as_on_file(overrides)):
                words = " ".join(f"{key}={value}" for key, value in (record.get("overrides") or {}).items())
                found = f"--budget {record['budget']} {words}".strip()
                raise RunError(f"{self.lines} holds results of {found}: choose another --out")

    def add(self, found: Sequence[tuple[Record, Path | None]]) -> None:
        """Put results on file, each with the `.npz` of its images, if any; one of another config gives way to them.

        What others have put there since stays. What could not be written is with the next results.

        Raises:
            RunError: a file cannot be read or written, or others have put results of another budget there.
        """
        new = [(record, None if path is None else _read(path, record)) for record, path in found]
        self._waiting |= {_key(record): (record, images) for record, images in new}
        if not self._waiting:
            return
        with in_turn(self.lines):
            self._read()
            for record, _ in self._waiting.values():
                self.check(record["budget"], record.get("overrides"))
            self._merge()
            if self._images:
                self._write_images()
            write_lines(self.lines, self.records)
        self._waiting = {}

    def of(self, arm: str) -> list[Record]:
        """The results of an arm, by seed."""
        found = [record for record in self.records if arm in record["arms"]]
        return sorted(found, key=lambda record: int(record["seed"]))

    def images(self, arm: str) -> list[Images]:
        """The values for each image of an arm's results, by seed; less those that were lost."""
        keys = [_key(record) for record in self.of(arm)]
        return [self._images[key] for key in keys if key in self._images]

    def _read(self) -> None:
        self.records = read_lines(self.lines)
        for record in self.records:
            if not record.keys() >= _KEYS:
                known = f"{self.lines} holds what is no result of {self.name}"
                raise RunError(f"{known}: remove it, or choose another --out")
        self._images = _images(self.arrays)

    def _merge(self) -> None:
        """Add the waiting results to those that were read."""
        found = [record for record, _ in self._waiting.values()]
        hashes = {arm: record["config_hash"] for record in found for arm in record["arms"]}
        kept = [
            each for each in self.records if {hashes.get(arm) for arm in each["arms"]} <= {None, each["config_hash"]}
        ]
        merged = {_key(record): record for record in [*kept, *found]}
        self.records = list(merged.values())
        self._images |= {key: images for key, (_, images) in self._waiting.items() if images is not None}
        self._images = {key: images for key, images in self._images.items() if key in merged}

    def _write_images(self) -> None:
        arrays = {
            f"{key}/{name}": getattr(images, name)
            for key, images in sorted(self._images.items())
            for name in ("row", "free_energy", "nll")
        }
        with atomic_write(self.arrays) as file:
            np.savez_compressed(file, **arrays)


def filled(folder: Path, name: str) -> Store:
    """What a folder holds of a comparison, if it holds anything.

    Raises:
        RunError: it does not, or it cannot be read.
    """
    store = Store(folder, name)
    if not store.records:
        raise RunError(f"there are no results in {store.lines}: run `flowvi reproduce {name}` first")
    return store


def _as_on_file(overrides: Mapping[str, Any] | None) -> Any:
    """The overrides as JSON gives them back: a tuple is a list."""
    return json.loads(json.dumps(overrides))


def _key(record: Mapping[str, Any]) -> str:
    return f"{record['config_hash']}/{record['seed']}"


def _read(path: Path, record: Record) -> Images:
    """The values that a test wrote, as narrow as they may be."""
    found = read_arrays(path, _AGAIN)
    if not found.keys() >= {"row", "free_energy", "log_evidence"}:
        raise RunError(f"{path} is not the file of a test: {_AGAIN}")
    row, free_energy, evidence = (found[key] for key in ("row", "free_energy", "log_evidence"))
    return Images(record["seed"], row.astype(np.int32), free_energy.astype(np.float32), (-evidence).astype(np.float32))


def _images(path: Path) -> dict[str, Images]:
    if not path.exists():
        return {}
    found = read_arrays(path, _REMOVE)
    keys = dict.fromkeys(name.rpartition("/")[0] for name in found)
    try:
        values = {key: [found[f"{key}/{name}"] for name in ("row", "free_energy", "nll")] for key in keys}
        return {key: Images(int(key.rpartition("/")[2]), *arrays) for key, arrays in values.items()}
    except (KeyError, ValueError) as error:
        raise RunError(f"{path} holds what is not a comparison's: {_REMOVE}") from error
