"""A run is a folder: its config, metrics, checkpoints, weights and results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from filelock import FileLock, Timeout

from flowvi.errors import BusyRun, RunError
from flowvi.experiments.config import Config, difference
from flowvi.experiments.estimators.registry import file_stem

__all__ = [
    "Run",
    "Sampling",
    "append_line",
    "as_run",
    "atomic_write",
    "result_path",
    "sync_folder",
    "truncate_lines",
]


class Sampling(NamedTuple):
    """What a test by importance sampling takes: samples for each image, and a random subset of so many (None: all).

    Example:
        >>> Sampling(samples=5000, images=1000)
        Sampling(samples=5000, images=1000)
    """

    samples: int = 200  # as in the paper
    images: int | None = None


@dataclass(frozen=True)
class Run:
    """A run folder and the config that made it.

    Example:
        >>> from flowvi.experiments import resolve
        >>> run = Run.create(Path("runs/mine"), resolve("dlgm.nf10.mnist"))
        >>> run.finished, run.weights.name
        (False, 'model.safetensors')
    """

    folder: Path
    config: Config

    @property
    def weights(self) -> Path:
        """The trained model's weights; there once training has finished."""
        return self.folder / "model.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The last complete state of training."""
        return self.folder / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The weights that did best on the validation images so far."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, as training went."""
        return self.folder / "metrics.jsonl"

    @property
    def finished(self) -> bool:
        """Whether training has come to its end."""
        return self.weights.exists()

    @classmethod
    def create(cls, folder: Path, config: Config) -> Run:
        """The run of `config` in `folder`, made or found.

        Raises:
            RunError: the folder cannot be written, or was made by another config.
        """
        file = folder / "config.json"
        if file.exists():
            run = cls.at(folder)
            changes = difference(run.config, config)
            if changes:
                raise RunError(
                    f"{folder} was made by another config: {'; '.join(changes)}. "
                    "Use its own settings, another --out, or remove the folder"
                )
            return run
        if (folder / "model.safetensors").exists():
            raise RunError(
                f"{folder} holds a trained model without its config.json: restore it, or choose another --out"
            )
        try:
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {folder}: {error.strerror}; choose another by --out") from error
        with atomic_write(file) as out:
            out.write((json.dumps(config.to_dict(), indent=2) + "\n").encode())
        return cls(folder, config)

    @classmethod
    def at(cls, folder: str | os.PathLike[str]) -> Run:
        """The run in an existing folder.

        Raises:
            RunError: there is none, or its config cannot be read.
        """
        folder = Path(folder)
        file = folder / "config.json"
        try:
            saved = json.loads(file.read_text())
        except FileNotFoundError:
            raise RunError(f"no run in {folder}: {_without_config(folder)}") from None
        except NotADirectoryError:
            raise RunError(f"{folder} is a file: name the folder that holds it") from None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"cannot read {file}: {error}") from error
        return cls(folder, Config.from_dict(saved, file))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder; the system lets go of it when the process ends, however it ends.

        Raises:
            BusyRun: another process is training there.
            RunError: the folder cannot be written.
        """
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise BusyRun(f"another process is training in {self.folder}: wait for it, or stop it first") from None
        except OSError as error:
            raise RunError(f"cannot write to the run folder {self.folder}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()


def _without_config(folder: Path) -> str:
    if (folder / "model.safetensors").exists():
        return "its model.safetensors lacks the config.json that belongs to it; restore it, or fetch the folder again"
    absent = "there is no config.json" if folder.exists() else "there is no such folder"
    return f"{absent}; train it first, or name its folder"


def as_run(run: Run | str | os.PathLike[str]) -> Run:
    """`run` itself, or the run in that folder."""
    return run if isinstance(run, Run) else Run.at(run)


def result_path(folder: Path, *, estimator: str = "is", **settings: Any) -> Path:
    """Where a test writes its result: `result.json` for the default one, `result-<estimator>-<first setting>…` else.

    Raises:
        ConfigError: an estimator or setting that does not exist, a value out of range.
    """
    return folder / f"{file_stem(estimator, settings)}.json"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` when it is complete and on the disk; until then `path` stays as it was.

    Raises:
        RunError: it could not be written; nothing was changed.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        with suppress(OSError):  # a file in place of the folder, a read-only disk
            part.unlink()
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RunError(f"cannot write {path}: {why}. What was there before is untouched") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    if hasattr(os, "O_DIRECTORY"):  # not on Windows
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON object to a file of lines.

    Raises:
        RunError: it could not be written.
    """
    try:
        with path.open("a") as out:
            out.write(json.dumps(record) + "\n")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def truncate_lines(path: Path, last_update: int) -> None:
    """Drop every line of a later update than `last_update`, and a last line that was cut off.

    Raises:
        RunError: the file cannot be read or written.
    """
    if not path.exists():
        return
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    kept = []
    for line in lines:
        try:
            if not line.endswith(b"\n") or json.loads(line)["update"] > last_update:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line)
    with atomic_write(path) as out:
        out.write(b"".join(kept))
