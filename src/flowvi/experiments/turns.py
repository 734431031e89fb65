"""Turns at a file that several processes add to: none writes over what another has put there. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flowvi.errors import RunError

__all__ = ["in_turn"]

WAIT_SECONDS = 60.0  # others hold a file for as long as it takes to read and write it, mostly far below a second


@contextmanager
def in_turn(path: Path, cure: str = "choose another --out") -> Iterator[None]:
    """Be the only process at a file, which is to be read, added to and written herein; others wait. Makes its folder.

    The lock is `.NAME.lock` beside the file. It stays there, empty: the system lets go of it when the process ends,
    however it ends.

    Raises:
        RunError: the folder cannot be made, which ends in `cure`, or not be written; or the others do not come to an
            end.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {path.parent}: {error.strerror}; {cure}") from error
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"cannot write {path}: another process has held {lock.lock_file} for {WAIT_SECONDS:.0f} s; let it go on or "
            "end it (a stopped one, by fg), and give the same command again"
        ) from None
    except OSError as error:  # as `atomic_write` says it
        raise RunError(f"cannot write {path}: {error.strerror}. What was there before is untouched") from error
    try:
        yield
    finally:
        lock.release()
