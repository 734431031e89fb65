"""Runs from their start to their end, in this process."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import flowvi
from flowvi.errors import CheckpointError, ConfigError, DataError, NonFiniteError, RunError
from flowvi.experiments import run as run_module
from flowvi.experiments.assembly import load_data
from flowvi.experiments.checkpoints import read_checkpoint
from flowvi.experiments.engine import Engine
from flowvi.experiments.run import Run
from flowvi.experiments.train import validation_free_energy
from flowvi.inference import annealing_weight

Settings = dict[str, Any]
Trace = Callable[[Path], dict[str, Any]]
PRESET = "dlgm.nf10.mnist"


class Killed(BaseException):
    """Stands for a power cut: nothing in the program catches it."""


def train(settings: Settings, out: Path | None = None, **more: Any) -> Run:
    return flowvi.train(PRESET, out=out, **{**settings, **more})


def lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


@contextmanager
def dying_at(update: int) -> Iterator[None]:
    """Training dies before it takes the update after this one."""
    step = Engine.step

    def die(engine: Engine) -> None:
        if engine.update == update:
            raise Killed
        step(engine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "step", die)
        with pytest.raises(Killed):
            yield


def test_metrics_are_one_object_a_line_in_order(tiny: Settings) -> None:
    run = train(tiny)
    found = lines(run)
    updates = [line["update"] for line in found]
    assert updates == sorted(updates)
    logged = [line for line in found if "loss" in line]
    assert [line["update"] for line in logged] == [5, 10, 15, 20, 25, 30]
    assert [line["update"] for line in found if "validation_free_energy" in line] == [10, 20, 30]
    for line in logged:
        assert line["beta"] == annealing_weight("kl", line["update"] - 1, 20)
        assert line["free_energy"] == pytest.approx(line["reconstruction"] + line["kl"])
        assert set(line) == {"update", "loss", "free_energy", "reconstruction", "kl", "gradient_norm",
                             "beta", "learning_rate", "seconds", "updates_per_second"}  # fmt: skip
    assert logged[-1]["loss"] < logged[0]["reconstruction"]


def test_uneven_ends_are_logged_validated_and_saved(tiny: Settings) -> None:
    run = train(tiny, **{"training.updates": 13})
    assert [line["update"] for line in lines(run) if "loss" in line] == [5, 10, 13]
    assert [line["update"] for line in lines(run) if "validation_free_energy" in line] == [10, 13]
    assert read_checkpoint(run.checkpoint)["update"] == 13


def test_a_finished_run_stays_as_it_is(tiny: Settings) -> None:
    run = train(tiny)
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    assert train(tiny) == run
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == before


def test_another_config_leaves_the_run_as_it_is(tiny: Settings, tmp_path: Path) -> None:
    run = train(tiny, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    with pytest.raises(RunError, match=r"flow\.length: 2 in the run folder, 3 now"):
        train(tiny, run.folder, **{"flow.length": 3})
    with pytest.raises(RunError, match=r"seed: 0 in the run folder, 1 now"):
        train(tiny, run.folder, seed=1)
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == before


def test_seeds_differ_and_repeat(tiny: Settings, tmp_path: Path, trace: Trace) -> None:
    one, again, other = (train(tiny, tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert trace(one.folder) == trace(again.folder)
    assert trace(one.folder)["weights"] != trace(other.folder)["weights"]


VARIANTS: dict[str, Settings] = {
    "plain": {},
    "last": {"training.selection": "last"},
    "dynamic, uneven": {"data.binarisation": "dynamic", "training.batch": 150},
    "by time": {"training.checkpoint_seconds": 1e-6, "training.checkpoint_every": 1000},
    "paper": {"training.protocol": "paper", "training.learning_rate": 1e-3, "training.validate_every": 3},
    "deep, importance weighted, bf16": {
        "model.latents": [3, 2],
        "training.objective": "iwae",
        "training.samples": 3,
        "precision": "bf16",
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_died_twice_ends_as_one_that_did_not(
    tiny: Settings, grey: Path, tmp_path: Path, trace: Trace, variant: str
) -> None:
    settings = {**tiny, "data.path": str(grey), **VARIANTS[variant]}
    whole = train(settings, tmp_path / "whole")
    for update in (3, 17):  # before the first checkpoint, and between others
        with dying_at(update):
            train(settings, tmp_path / "broken")
    broken = train(settings, tmp_path / "broken")
    assert trace(broken.folder) == trace(whole.folder)
    results = [flowvi.test(run, samples=5) for run in (whole, broken)]
    for result in results:
        for key in ("train_seconds", "test_seconds"):
            result.pop(key)
    assert results[0] == results[1]
    assert not parts(tmp_path)


@pytest.mark.parametrize("place", ["write_checkpoint", "write_weights", "append_line"])
def test_a_death_around_any_write_is_no_different(
    tiny: Settings, tmp_path: Path, trace: Trace, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    module = sys.modules["flowvi.experiments.train"]
    whole = train(tiny, tmp_path / "whole")
    write = getattr(module, place)
    for after in (False, True):

        def dying(path: Path, what: Any, after: bool = after) -> None:
            if after:
                write(path, what)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(module, place, dying)
            with pytest.raises(Killed):
                train(tiny, tmp_path / "broken")
    assert trace(train(tiny, tmp_path / "broken").folder) == trace(whole.folder)


@pytest.mark.parametrize("more", [{}, {"model.encoder": "broken_networks:Restless"}])
def test_validation_leaves_no_trace(tiny: Settings, tmp_path: Path, more: Settings) -> None:
    settings = {**tiny, "training.selection": "last", **more}
    often = train(settings, tmp_path / "often", **{"training.validate_every": 1})
    never = train(settings, tmp_path / "never", **{"training.validate_every": 1000})
    assert often.weights.read_bytes() == never.weights.read_bytes()


def test_validation_sees_the_network_as_it_is_used(tiny: Settings) -> None:
    """With dropout a validation in training mode would differ from one of the saved weights."""
    run = train(tiny, **{"model.encoder": "broken_networks:Restless", "training.selection": "last"})
    dataset = load_data(run.config, torch.device("cpu"))
    scores = [line["validation_free_energy"] for line in lines(run) if "validation_free_energy" in line]
    assert validation_free_energy(flowvi.load(run), dataset) == pytest.approx(scores[-1], rel=1e-6)


def test_the_best_on_validation_is_kept(tiny: Settings) -> None:
    wild = {"training.learning_rate": 0.3, "training.validate_every": 3}
    run = train(tiny, **wild, **{"training.schedule": "constant"})
    scores = {line["update"]: line["validation_free_energy"] for line in lines(run) if "validation_free_energy" in line}
    best = min(scores, key=lambda update: scores[update])
    assert best != 30, "choose settings under which the last is not the best"
    assert read_checkpoint(run.checkpoint)["best"] == {"update": best, "validation_free_energy": scores[best]}
    assert run.weights.read_bytes() == run.best.read_bytes()
    assert flowvi.test(run, samples=2)["selected_update"] == best


def test_the_last_is_kept_where_the_config_says_so(tiny: Settings) -> None:
    run = train(tiny, **{"training.selection": "last"})
    state, saved = read_checkpoint(run.checkpoint)["model"], load_file(run.weights)
    assert saved.pop("features") == 16
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[name], state[name]) for name in saved)
    assert flowvi.test(run, samples=2)["selected_update"] == 30


def test_selection_by_validation_needs_validation_images(tiny: Settings, tmp_path: Path) -> None:
    import numpy as np

    file = tmp_path / "two.npz"
    ones = np.eye(16, dtype=np.uint8).repeat(5, 0)
    np.savez(file, train=ones, test=ones)
    settings = {**tiny, "data.path": str(file), "data.validation": 0}
    with pytest.raises(ConfigError, match="no validation images"):
        train(settings)
    run = train({**settings, "training.selection": "last"})
    assert not run.best.exists()
    assert not any("validation_free_energy" in line for line in lines(run))


def test_a_validation_that_is_not_finite_is_never_the_best(tiny: Settings) -> None:
    more = {"model.encoder": "broken_networks:NaNAtValidation"}
    run = train(tiny, **more)
    assert not run.best.exists()
    assert all(math.isnan(line["validation_free_energy"]) for line in lines(run) if len(line) == 2)


@pytest.mark.parametrize(("network", "part"), [("NaNLoss", "loss"), ("NaNGradient", "gradient")])
def test_what_is_not_finite_stops_the_run_and_the_last_good_checkpoint_stays(
    tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, part: str
) -> None:
    monkeypatch.setenv("BREAKS_AT", "15")
    with pytest.raises(NonFiniteError, match=rf"^update 15: {part}") as error:
        train(tiny, tmp_path / "run", **{"model.encoder": f"broken_networks:{network}"})
    assert "\n" not in str(error.value)
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert state["update"] == 10
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_tied_weights_are_saved(tiny: Settings) -> None:
    run = train(tiny, **{"model.encoder": "broken_networks:Tied"})
    assert math.isfinite(flowvi.test(run, samples=2)["nll"])


@pytest.fixture
def interrupted(tiny: Settings, tmp_path: Path) -> Path:
    """The folder of a run that died at update 15, ten of them saved."""
    with dying_at(15):
        train(tiny, tmp_path / "run")
    return tmp_path / "run"


def test_a_damaged_checkpoint_stops_the_run_and_stays(interrupted: Path, tiny: Settings, trace: Trace) -> None:
    checkpoint = interrupted / "checkpoints" / "last.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        train(tiny, interrupted)
    assert checkpoint.read_bytes() == whole[:-100]
    checkpoint.unlink()  # as the message says: from the start
    run = train(tiny, interrupted)
    assert [line["update"] for line in lines(run) if "loss" in line] == [5, 10, 15, 20, 25, 30]


def test_the_checkpoint_of_another_model_is_refused(interrupted: Path, tiny: Settings, tmp_path: Path) -> None:
    other = train(tiny, tmp_path / "other", **{"model.latents": [3]})
    shutil.copy(other.checkpoint, interrupted / "checkpoints" / "last.pt")
    with pytest.raises(CheckpointError, match="does not fit its config"):
        train(tiny, interrupted)


def test_a_damaged_best_is_no_trained_model(interrupted: Path, tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    best = interrupted / "checkpoints" / "best.safetensors"
    monkeypatch.setattr("flowvi.experiments.train.write_weights", lambda *_: None)  # nothing better comes along
    best.write_bytes(best.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="damaged"):
        train(tiny, interrupted)
    assert not (interrupted / "model.safetensors").exists()
    best.unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        train(tiny, interrupted)


def test_a_run_in_use_is_refused(interrupted: Path, tiny: Settings) -> None:
    before = (interrupted / "metrics.jsonl").read_bytes()
    with Run.at(interrupted).locked(), pytest.raises(RunError, match="another process is training"):
        train(tiny, interrupted)
    assert (interrupted / "metrics.jsonl").read_bytes() == before


def test_data_that_cannot_be_read(tiny: Settings) -> None:
    with pytest.raises(DataError, match="does not exist"):
        train(tiny, **{"data.path": "nowhere.npz"})


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real disk of 256 KiB, where the user may mount one."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.name != "posix" or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a disk is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write until the disk is full to the last byte."""
    with file.open("wb", buffering=0) as out:
        for size in (4096, 1):
            with suppress(OSError):
                while out.write(bytes(size)):
                    pass


def test_a_full_disk_costs_one_error_and_no_checkpoint(
    small_disk: Path, tiny: Settings, trace: Trace, tmp_path: Path
) -> None:
    folder, ballast = small_disk / "run", small_disk / "ballast"
    step = Engine.step
    whole = train(tiny, tmp_path / "whole")
    for update, kept in ((8, 0), (18, 10)):

        def filling(engine: Engine, update: int = update) -> None:
            step(engine)
            if engine.update == update:
                fill(ballast)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Engine, "step", filling)
            with pytest.raises(RunError, match="No space left on device") as error:
                train(tiny, folder)
        assert "\n" not in str(error.value)
        assert not parts(folder)
        ballast.unlink()
        if kept:
            assert read_checkpoint(folder / "checkpoints" / "last.pt")["update"] == kept
    run = train(tiny, folder)
    assert trace(run.folder) == trace(whole.folder)
    fill(ballast)
    with pytest.raises(RunError, match=r"result-is-2\.npz: No space left on device"):
        flowvi.test(run, samples=2)
    with pytest.raises(RunError, match="No space left on device"):
        train(tiny, small_disk / "another")
    assert not parts(small_disk)
    assert not list(folder.glob("result*"))


@pytest.mark.parametrize("name", ["last.pt", "best.safetensors", "model.safetensors", "config.json"])
def test_a_write_that_the_system_refuses(
    tiny: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace: Trace, name: str
) -> None:
    whole = train(tiny, tmp_path / "whole")
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target.name == name:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(run_module.Path, "replace", refuse)
    with pytest.raises(RunError, match=rf"cannot write .*{name}: No space left on device"):
        train(tiny, tmp_path / "run")
    monkeypatch.undo()
    assert not parts(tmp_path)
    assert trace(train(tiny, tmp_path / "run").folder) == trace(whole.folder)
