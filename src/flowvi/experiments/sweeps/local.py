"""Jobs on this machine: a spawned process for each, so that one that crashes takes no other with it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from flowvi.experiments.sweeps.grid import Job
from flowvi.experiments.sweeps.worker import work

__all__ = ["Local", "cores"]


@dataclass
class _Started:
    job: Job
    slot: int
    process: Any  # of the spawn context, whose type has no public name
    said: Connection


class Local:
    """At most `jobs` processes at once, which share the cores and, one after the other, the GPUs.

    Args:
        todo: the jobs that there are.
        jobs: at once; by default one for each GPU where they may use it, else one for each core.
        threads: of each; by default the cores divided by `jobs`, or less where OMP_NUM_THREADS says less.
    """

    def __init__(self, todo: Sequence[Job], jobs: int | None, threads: int | None) -> None:
        self._gpus = _gpus() if any(job.run.config.device != "cpu" for job in todo) else 0
        self.jobs = max(1, min(jobs or self._gpus or cores(), len(todo)))
        self.threads = threads or max(1, min(cores() // self.jobs, _limit()))
        self._started: list[_Started] = []
        self._stopping = False

    @property
    def free(self) -> int:
        """How many jobs may start now."""
        return self.jobs - len(self._started)

    def start(self, job: Job) -> None:
        """Start a job's process."""
        slot = min(set(range(self.jobs)) - {started.slot for started in self._started})
        gpu = slot % self._gpus if self._gpus > 1 and job.run.config.devices == 1 else None
        threads = max(1, self.threads // job.run.config.devices)
        said, says = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("spawn")
        words = str(job.folder.absolute()), threads, job.tests
        process = context.Process(target=_process, args=(says, gpu, *words))
        with _signals_held():
            process.start()
        says.close()
        self._started.append(_Started(job, slot, process, said))

    def ended(self, seconds: float) -> list[tuple[Job, str, str]]:
        """The jobs that ended within so many seconds, each with how and why."""
        if not self._started:
            time.sleep(seconds)
            return []
        ready = wait([started.process.sentinel for started in self._started], seconds)
        over = [started for started in self._started if started.process.sentinel in ready]
        self._started = [started for started in self._started if started not in over]
        return [(started.job, *self._told(started)) for started in over]

    def stop(self) -> None:
        """Ask every job to save and stop."""
        self._stopping = True
        for started in self._started:
            started.process.terminate()

    def close(self) -> None:
        """End what still runs, at once."""
        for started in self._started:
            started.process.kill()
            started.process.join()

    def _told(self, started: _Started) -> tuple[str, str]:
        started.process.join()
        code = started.process.exitcode
        with started.said, suppress(EOFError, OSError):  # it died without a word
            state, message = started.said.recv()
            return state, message
        if code == -signal.SIGTERM or self._stopping:
            return "stopped", "asked to stop"
        return "failed", _death(code)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _limit() -> int:
    """What the environment allows a process."""
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(text) if text.isdecimal() and int(text) > 0 else cores()


def _gpus() -> int:
    if shutil.which("nvidia-smi") is None:  # spares the import of torch
        return 0
    import torch

    return torch.cuda.device_count()


def _death(code: int) -> str:
    """What to say of a process that ended without a word."""
    how = f"ended with exit code {code}"
    if code < 0:
        try:
            how = f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"was killed by signal {-code}"
    memory = " (the system does that where memory runs out)" if code == -getattr(signal, "SIGKILL", 0) else ""
    return f"its process {how}{memory}; tried again, it goes on from its last checkpoint"


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C waits until a process is started, and in that process until it is ready for it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _process(says: Connection, gpu: int | None, *words: Any) -> None:
    """The body of a job's process; `words` are what `work` takes."""
    _leave_the_terminal()
    threading.Thread(target=_stop_with_the_parent, daemon=True).start()
    if gpu is not None:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[gpu] if seen else str(gpu)
    says.send(work(*words))


def _leave_the_terminal() -> None:
    """Its Ctrl-C goes to the sweep alone, which passes it on: twice would mean to stop without saving."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _stop_with_the_parent() -> None:
    """A sweep that was killed leaves nothing running: its jobs save and stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
