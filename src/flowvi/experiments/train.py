"""Train a config in its run folder: start, stop, resume, finish."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import ProcessException, ProcessRaisedException

from flowvi import errors
from flowvi.data import Dataset
from flowvi.errors import CheckpointError, ConfigError, InterruptedRun, NonFiniteError, RunError
from flowvi.experiments.assembly import load_data
from flowvi.experiments.checkpoints import read_checkpoint, read_weights, write_checkpoint, write_weights
from flowvi.experiments.config import resolve, run_folder
from flowvi.experiments.engine import Engine, make_fabric
from flowvi.experiments.interrupt import stop_requests, stops_passed_on
from flowvi.experiments.progress import Progress, Silent
from flowvi.experiments.run import Run, append_line, atomic_write, truncate_lines
from flowvi.experiments.scalars import Scalars
from flowvi.inference import free_energy

__all__ = ["train", "train_run"]

VALIDATION_ROWS = 500
VALIDATION_SEED = 0  # the same noise at every validation, so that two of them differ by the weights alone


def train(preset: str, *, seed: int = 0, out: str | os.PathLike[str] | None = None, **overrides: Any) -> Run:
    """Train a preset, or go on with a run that was interrupted; a finished run is left as it is.

    Args:
        preset: a name that `flowvi configs` lists.
        seed: of weights, noise and the order of the images.
        out: the run folder; by default one named after preset, overrides and seed, under `FLOWVI_RUNS` or `runs`.
        overrides: any key of the config, such as `**{"flow.length": 20}`.

    Returns:
        The finished run.

    Raises:
        ConfigError: an unknown preset or key, or a value that is not allowed.
        RunError: the run folder is in use, cannot be written, or was made by another config.
        CheckpointError: its checkpoint is damaged.
        NonFiniteError: a loss or gradient was not finite; the last good checkpoint stays.
        InterruptedRun: Ctrl-C or SIGTERM; a checkpoint was saved.

    Example:
        >>> run = train("dlgm.nf10.mnist", seed=1, **{"flow.length": 20, "training.updates": 5})  # doctest: +SKIP
    """
    settings = {**overrides, "seed": seed}
    config = resolve(preset, settings)
    folder = Path(out) if out is not None else run_folder(preset, settings)
    run = Run.create(folder, config)
    train_run(run)
    return run


def train_run(run: Run) -> None:
    """Bring a run to its end, from where it is. Raises as `train` does."""
    if run.finished:
        return
    with run.locked():
        outcome, message = _launch(run)
    if outcome == "interrupted":
        raise InterruptedRun(message)
    if outcome == "not finite":
        raise NonFiniteError(message)


def _launch(run: Run) -> tuple[str, str]:
    """Train in this process, or in as many as the config asks for."""
    launch: Any = make_fabric(run.config).launch  # annotated for functions without arguments
    outcome: tuple[str, str]
    if run.config.devices == 1:
        outcome = launch(_work, run.folder)
        return outcome
    with stops_passed_on() as stop:
        try:
            outcome = launch(_work, run.folder)
        except ProcessException as error:
            if stop.is_set():
                return "interrupted", "stopped; the same command goes on from the last checkpoint"
            raise _of_a_process(error) from error
    return outcome


def _of_a_process(error: ProcessException) -> Exception:
    """What ended a process: the flowvi error that its traceback ends in, or that it was killed; else `error`."""
    if not isinstance(error, ProcessRaisedException):
        return RunError(f"training {error}; the same command goes on from the last checkpoint")
    name, _, message = str(error).strip().splitlines()[-1].partition(": ")
    kind = getattr(errors, name.removeprefix("flowvi.errors."), None)
    return kind(message) if kind is not None else error


def _work(fabric: Any, folder: Path) -> tuple[str, str]:
    """Train in one process of the fabric. (Which takes no frozen dataclass, such as a run, to its processes.)

    What stops all of them is told by value: the first to raise takes the others with it, even from their writing.
    """
    run = Run.at(folder)
    with stop_requests() as stop:
        loop = _Loop(fabric, run)
        try:
            while loop.engine.update < run.config.training.updates:
                if loop.agreed(stop.is_set()):
                    loop.save()
                    return "interrupted", _farewell(run, loop.engine.update)
                loop.advance()
            loop.finish()
        except NonFiniteError as error:
            return "not finite", str(error)
        finally:
            loop.close()
    return "finished", ""


def _farewell(run: Run, update: int) -> str:
    total = run.config.training.updates
    return f"stopped at update {update:,} of {total:,}, saved; the same command goes on from there"


class _Loop:
    """The engine with its files: metrics, validation, checkpoints. Only the first process writes."""

    def __init__(self, fabric: Any, run: Run) -> None:
        self.run, self.fabric, self.config = run, fabric, run.config
        self.dataset: Dataset = load_data(run.config, fabric.device)
        if self.dataset.valid is None and run.config.training.selection == "validation":
            raise ConfigError(
                f"training.selection=validation, but {self.dataset.name} has no validation images: set data.validation "
                "to their number, or training.selection=last"
            )
        self.engine = Engine(fabric, run.config, self.dataset)
        self.writes: bool = fabric.is_global_zero
        self.best: dict[str, float] | None = None
        self._seconds_before = 0.0
        if run.checkpoint.exists():
            self._restore()
        self._scalars: Scalars | None = None
        with self._alone():
            if self.writes:
                truncate_lines(run.metrics, self.engine.update)
                self._scalars = Scalars(run.folder / "tensorboard", self.engine.update)
        self._started = self._saved = time.monotonic()
        self._logged = (self._started, self.engine.update)
        training = run.config.training
        self.progress = Progress(self.engine.update, training.updates) if self.writes else Silent()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all sessions."""
        return self._seconds_before + time.monotonic() - self._started

    def agreed(self, stop: bool) -> bool:
        """Whether any process was asked to stop."""
        if self.fabric.world_size == 1:
            return stop
        flag = torch.tensor(float(stop), device=self.fabric.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="sum") > 0)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """What the first process does while the others wait to agree: if it fails, they are told to stop."""
        try:
            yield
        except (RunError, OSError):
            if self.engine.update < self.config.training.updates:
                self.agreed(True)
            raise

    def advance(self) -> None:
        """One update, and whatever falls due after it."""
        engine, training = self.engine, self.config.training
        beta, rate = engine.beta, engine.learning_rate
        engine.step()
        last = engine.update == training.updates
        with self._alone():
            if engine.update % training.log_every == 0 or last:
                engine.check()
                self._log(beta, rate)
            if self.writes:
                self._keep(engine.update, last)

    def _keep(self, update: int, last: bool) -> None:
        training = self.config.training
        if self.dataset.valid is not None and (update % training.validate_every == 0 or last):
            self._validate()
        due = time.monotonic() - self._saved > training.checkpoint_seconds
        if update % training.checkpoint_every == 0 or due or last:
            self.save()

    def save(self) -> None:
        """Write the whole state."""
        self.engine.check()
        if self.writes:
            write_checkpoint(self.run.checkpoint, {**self.engine.state(), "best": self.best, "seconds": self.seconds})
        self._saved = time.monotonic()

    def finish(self) -> None:
        """Write the weights that are tested: the run is finished when they are there."""
        if not self.writes:
            return
        if self.config.training.selection == "validation" and self.best is not None:
            read_weights(self.run.best)  # a damaged file is no trained model
            with atomic_write(self.run.weights) as out:
                out.write(self.run.best.read_bytes())
        else:
            write_weights(self.run.weights, self.engine.model)

    def close(self) -> None:
        """Let go of the terminal and the files."""
        self.progress.close()
        if self._scalars is not None:
            self._scalars.close()

    def _restore(self) -> None:
        state = read_checkpoint(self.run.checkpoint)
        try:
            self.engine.restore(state)
            self.best, self._seconds_before = state["best"], state["seconds"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint {self.run.checkpoint} does not fit its config: remove it to train from the start"
            ) from error

    def _log(self, beta: float, rate: float) -> None:
        means = self.engine.read_means()
        now, update = time.monotonic(), self.engine.update
        speed = (update - self._logged[1]) / max(now - self._logged[0], 1e-9)
        self._logged = now, update
        if self.writes:
            record = {"update": update, **means, "beta": beta, "learning_rate": rate}
            self._record({**record, "seconds": self.seconds, "updates_per_second": speed})
            self.progress.show(update, means, beta, speed)

    def _record(self, record: dict[str, float]) -> None:
        append_line(self.run.metrics, record)
        if self._scalars is not None:
            self._scalars.add(record)

    def _validate(self) -> None:
        self.engine.check()
        score = validation_free_energy(self.engine.model, self.dataset)
        update = self.engine.update
        self._record({"update": update, "validation_free_energy": score})
        self.progress.validated(score)
        best = math.inf if self.best is None else self.best["validation_free_energy"]
        if score < best:  # never where it is not a number
            self.best = {"update": update, "validation_free_energy": score}
            write_weights(self.run.best, self.engine.model)


@torch.no_grad()
def validation_free_energy(model: Any, dataset: Dataset) -> float:
    """Mean F(x) over the validation images, one sample each, in nats; leaves random state and model as they were."""
    assert dataset.valid is not None
    images = dataset.valid
    device = images.pixels.device
    total = 0.0
    training = model.training
    model.eval()  # networks of one's own may have dropout or batch statistics
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(VALIDATION_SEED)
        for rows in torch.arange(len(images), device=device).split(VALIDATION_ROWS):
            total += float(free_energy(model, images.batch(rows)).value.double().sum())
    model.train(training)
    return total / len(images)
