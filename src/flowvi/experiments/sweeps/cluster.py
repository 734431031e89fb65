"""Jobs as tasks of Ray: on this machine, or on the cluster that RAY_ADDRESS names, whose disk must hold the runs."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from flowvi.errors import ConfigError, RunError
from flowvi.experiments.sweeps.grid import Job
from flowvi.experiments.sweeps.worker import work

__all__ = ["Cluster", "check_ray"]

RETRIES = 3  # of a job whose worker died
CONNECT_SECONDS = 10.0


def check_ray() -> None:
    """Raise ConfigError where ray is not installed."""
    if find_spec("ray") is None:
        raise ConfigError("engine=ray needs the package ray: pip install 'flowvi[ray]'")


class Cluster:
    """As many tasks at once as the cluster has room for.

    A job whose worker dies is tried again, and goes on from its checkpoint.

    Args:
        todo: the jobs that there are.
        jobs: at most so many at once.
        threads: of each, which are its CPUs to Ray; 1 by default.
        gpus: of each, a fraction too; by default one, if there are any, for jobs that may use it.
    """

    def __init__(self, todo: Sequence[Job], jobs: int | None, threads: int | None, gpus: float | None) -> None:
        check_ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            self._connect()
        resources = self._ray.cluster_resources()
        self.threads = threads or 1
        self._gpus = (1.0 if resources.get("GPU") else 0.0) if gpus is None else gpus
        self.jobs = max(1, min(jobs or len(todo), len(todo)))
        # a job's process is not used again: it would keep its threads and its GPU's memory
        self._task: Any = ray.remote(max_retries=RETRIES, max_calls=1)(work)
        self._started: dict[Any, Job] = {}

    def _connect(self) -> None:
        address = os.environ.get("RAY_ADDRESS") or "local"
        _check_reachable(address)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            self._ray.init(address=address, **quiet, **({"include_dashboard": False} if address == "local" else {}))
        except (ConnectionError, ValueError, RuntimeError) as error:
            why = str(error).strip().splitlines()[0]
            raise _unreachable(address, why) from error

    @property
    def free(self) -> int:
        """How many jobs may start now."""
        return self.jobs - len(self._started)

    def start(self, job: Job) -> None:
        """Hand a job to Ray, which starts it as soon as there is room."""
        config = job.run.config
        gpus = 0.0 if config.device == "cpu" else self._gpus * config.devices
        task = self._task.options(name=job.label, num_cpus=self.threads * config.devices, num_gpus=gpus)
        words = str(job.folder.absolute()), self.threads, job.tests
        self._started[task.remote(*words)] = job

    def ended(self, seconds: float) -> list[tuple[Job, str, str]]:
        """The jobs that ended within so many seconds, each with how and why."""
        if not self._started:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._started), timeout=seconds)
        return [(self._started.pop(reference), *self._told(reference)) for reference in ready]

    def stop(self) -> None:
        """Ask every job to save and stop."""
        for reference in self._started:
            self._ray.cancel(reference, force=False)

    def close(self) -> None:
        """End what still runs, at once; leave Ray, if it was started here."""
        for reference in self._started:
            self._ray.cancel(reference, force=True)
        if self._ours:
            self._ray.shutdown()

    def _told(self, reference: Any) -> tuple[str, str]:
        errors = self._ray.exceptions
        try:
            state, message = self._ray.get(reference)
        except errors.TaskCancelledError:
            return "stopped", "asked to stop"
        except errors.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            # the last line of a traceback, the first of everything else
            return "failed", lines[-1] if isinstance(error, errors.RayTaskError) else lines[0]
        return state, message


def _check_reachable(address: str) -> None:
    """Raise RunError where nothing listens at `host:port`, for which Ray itself would wait for minutes."""
    found = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1].strip("[]"), int(found[2])), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, why: str) -> RunError:
    return RunError(f"cannot reach the Ray cluster at RAY_ADDRESS={address}: {why}")
