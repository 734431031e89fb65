"""A folder of files, written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from flowvi.errors import RunError
from flowvi.experiments.run import sync_folder

__all__ = ["write_folder"]


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write `files`, by name, into the folder `target`: all are on the disk before any takes its place.

    A new folder appears complete. In one that exists the files take their places one by one, by renaming,
    which needs no space; others in it stay.

    Raises:
        RunError: they could not be written; what was there before is untouched.
    """
    place = Path(os.path.abspath(target))  # `.` has a name then
    stage = place.with_name(f".{place.name}.part")
    try:
        new = not target.exists()
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(stage, ignore_errors=True)  # of a process that was killed
        stage.mkdir()
        for name, content in files.items():
            _write(stage / name, content)
        if new:
            stage.replace(place)
            sync_folder(place.parent)
            return
        blocked = [name for name in files if (target / name).is_dir()]
        if blocked:
            raise RunError(f"cannot write {target / blocked[0]}: a folder stands in its place")
        for name in files:
            (stage / name).replace(target / name)
        sync_folder(place)
    except OSError as error:
        why = error.strerror or str(error)
        raise RunError(f"cannot write {target}: {why}. Nothing was left half-written") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
