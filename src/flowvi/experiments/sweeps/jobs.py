"""How a job stands, read off its run folder. Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flowvi.experiments.run import Run, atomic_write
from flowvi.experiments.sweeps.grid import Job

__all__ = ["Outcome", "failure", "forget_failure", "keep_failure", "last_metrics", "log_file", "result_of", "standing"]

TAIL_BYTES = 4096  # of the metrics; a line has about 300

State = Literal["done", "failed", "stopped"]


@dataclass(frozen=True)
class Outcome:
    """How a job of a sweep ended.

    Attributes:
        job: the job, with its `label`, `folder` and `run`.
        state: `done` (trained and tested), `failed`, or `stopped` (asked to; it can go on).
        earlier: whether it was so before this sweep, which then left it alone.
        message: in one line, why it failed or where it stopped.
        result: the record of its test, if it is done.
    """

    job: Job
    state: State
    earlier: bool = False
    message: str = ""
    result: Mapping[str, Any] | None = None


def standing(job: Job) -> Outcome | None:
    """The outcome that the run folder holds; None while there is work to do."""
    result = result_of(job)
    if result is not None:
        return Outcome(job, "done", earlier=True, result=result)
    message = failure(job.folder)
    return None if message is None else Outcome(job, "failed", earlier=True, message=message)


def result_of(job: Job) -> dict[str, Any] | None:
    """The record of the first test of a finished run; None before all its tests are done, or where it is unreadable."""
    if not (job.run.finished and all(path.exists() for path in job.results)):
        return None
    try:
        record = json.loads(job.result.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def log_file(folder: Path) -> Path:
    """Where a job's process writes what it would have printed."""
    return folder / "log.txt"


def failure(folder: Path) -> str | None:
    """The line that is kept of a failed job; None if it has not failed."""
    try:
        return _failure_file(folder).read_text("utf-8").strip()
    except OSError:
        return None


def keep_failure(folder: Path, message: str) -> None:
    """Keep a failed job's message, in one line.

    Raises:
        RunError: it could not be written.
    """
    with atomic_write(_failure_file(folder)) as out:
        out.write(f"{' '.join(message.split())}\n".encode())


def forget_failure(folder: Path) -> None:
    """Take the message away: the job is to be tried again."""
    _failure_file(folder).unlink(missing_ok=True)


def _failure_file(folder: Path) -> Path:
    return folder / "failure.txt"


def last_metrics(run: Run) -> dict[str, Any]:
    """The last complete line of training's metrics; empty before the first."""
    with suppress(OSError):
        with run.metrics.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            lines = file.read().splitlines(keepends=True)
        for line in reversed(lines):
            if line.endswith(b"\n") and b'"seconds"' in line and line.startswith(b"{"):  # the first may be cut
                with suppress(ValueError):
                    record: dict[str, Any] = json.loads(line)
                    return record
    return {}
