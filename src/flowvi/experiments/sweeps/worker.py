"""What a job's process does, whichever engine started it: train, test, and say how it ended."""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from flowvi.errors import BusyRun, FlowviError, InterruptedRun, RunError
from flowvi.experiments.run import Run, Sampling, result_path
from flowvi.experiments.sweeps.jobs import keep_failure, log_file

__all__ = ["work"]

_POOLS = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"


def work(folder: str, threads: int, tests: Sequence[Sampling] = (Sampling(),)) -> tuple[str, str]:
    """Bring the run in `folder` to its end and test it as `flowvi.test` does, with so many threads.

    Nothing is raised: engines carry errors between processes badly, and a plain pair well.

    Returns:
        `done`, `failed`, `stopped` or `busy` (another process holds the run), and a line on why. A failure is kept in
        the run folder; that a run is busy is not, for it is not the run's fault.
    """
    try:
        with _printing_to(log_file(Path(folder))):
            return _work(Path(folder), threads, tests)
    except (KeyboardInterrupt, SystemExit):
        return "stopped", "asked to stop"
    except OSError as error:
        return "failed", f"cannot write to the run folder {folder}: {error.strerror}"


def _work(folder: Path, threads: int, tests: Sequence[Sampling]) -> tuple[str, str]:
    try:
        _use(threads)
        from flowvi.experiments.evaluate import test
        from flowvi.experiments.train import train_run

        run = Run.at(folder)
        train_run(run)
        for samples, images in tests:
            if not result_path(folder, samples=samples, images=images).exists():
                test(run, samples=samples, images=images)
    except InterruptedRun as error:
        return "stopped", str(error)
    except BusyRun as error:
        return "busy", str(error)
    except Exception as error:  # whatever it is, the other jobs go on
        traceback.print_exc()
        message = "; ".join(line.strip() for line in str(error).splitlines())
        if not isinstance(error, FlowviError):
            message = f"{type(error).__name__}: {message}".removesuffix(": ")
        with suppress(RunError):
            keep_failure(folder, message)
        return "failed", message
    return "done", ""


def _use(threads: int) -> None:
    """Have this process use so many threads; the variables are for the pools of libraries that are yet to start."""
    os.environ.update(dict.fromkeys(_POOLS, str(threads)))
    import torch

    torch.set_num_threads(threads)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"{now}: process {os.getpid()} of {platform.node()}, threads: {torch.get_num_threads()}", flush=True)


@contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Have all that this process prints, C libraries included, go to the end of a file."""
    with path.open("a", buffering=1) as log:
        _flush()
        kept = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in kept:
                os.dup2(log.fileno(), number)
            with redirect_stdout(log), redirect_stderr(log):
                yield
        finally:
            _flush()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
