"""The other end of `jax_worker.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers import missing

# What JAX compiled is kept, however quickly it was compiled: there are about a hundred sizes.
CACHE = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(tempfile.gettempdir()) / "flowvi-benchmarks-jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


class Worker:
    """A process that times flowjax's contenders when asked, and waits for the next question else."""

    def __init__(self, threads: int) -> None:
        self.absent = missing("flowjax")
        self._process: subprocess.Popen[str] | None = None
        if self.absent is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.jax_worker", str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=Path(__file__).resolve().parents[1],
                env={**CACHE, **os.environ, "JAX_PLATFORMS": "cpu"},
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._process is not None:
            self._process.communicate()  # the end of its input ends it

    def ask(self, **request: Any) -> dict[str, Any]:
        """Its answer.

        Raises:
            RuntimeError: it failed.
        """
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def make(self, kind: str, **sizes: int) -> Remote:
        """A contender there, compiled and found to have finite gradients.

        Raises:
            RuntimeError: it failed.
        """
        if not self.ask(make=kind, kind=kind, **sizes)["finite"]:
            raise RuntimeError("gradients are not finite")
        return Remote(self, kind)


@dataclass(frozen=True)
class Remote:
    """A contender in the other process. Times are taken there: the question's way is not in them."""

    worker: Worker
    name: str
    units: int = 1

    def block(self, calls: int) -> float:
        """Milliseconds for each of `calls` calls."""
        return float(self.worker.ask(block=self.name, calls=calls)["ms"])
