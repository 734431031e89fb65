"""Results on file: JSON objects, one a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flowvi.errors import RunError
from flowvi.experiments.run import atomic_write

__all__ = ["read_lines", "read_record", "write_lines"]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The results in a file of JSON lines, none where there is no file.

    Raises:
        RunError: it cannot be read.
    """
    if not path.exists():
        return []
    try:
        return [read_record(path, line) for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read {path} ({error}): name another") from error


def read_record(path: Path, text: str) -> dict[str, Any]:
    """The result that `text` is, found in the file `path`.

    Raises:
        RunError: it is none.
    """
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise RunError(f"{path} does not hold results as flowvi writes them: remove it, or name another")
    return record


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Put results in the place of those in a file.

    Raises:
        RunError: it cannot be written; what was there is untouched.
    """
    with atomic_write(path) as file:
        file.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())
