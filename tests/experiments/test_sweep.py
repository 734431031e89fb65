"""Sweeps: the grid, what is skipped, resumed, kept and told, and workers that are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import flowvi
from flowvi.errors import ConfigError, InterruptedRun, RunError
from flowvi.experiments.checkpoints import read_checkpoint
from flowvi.experiments.config import resolve, run_folder
from flowvi.experiments.run import Run, Sampling
from flowvi.experiments.sweep import _outcome, sweep_jobs
from flowvi.experiments.sweeps import cluster, local, worker
from flowvi.experiments.sweeps.board import Board
from flowvi.experiments.sweeps.grid import parse_grid, plan, split_values
from flowvi.experiments.sweeps.jobs import Outcome, failure, last_metrics, log_file

Settings = dict[str, Any]
PRESET = "dlgm.dc.mnist"
DEADLINE = 120.0  # seconds; generous, since processes have to import torch on a busy machine


@pytest.fixture
def small(tiny: Settings) -> Settings:
    """`tiny` without a flow, for a sweep: a list of latents would be an axis."""
    return {**tiny, "flow.length": 0, "model.latents": (2,)}


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file exists, `slow_networks:Held` takes a quarter of a second for each update."""
    file = tmp_path / "hold"
    file.touch()
    monkeypatch.setenv("HOLD", str(file))
    return file


@pytest.fixture
def held(small: Settings) -> Settings:
    """More than a minute of training while `hold` exists, and a second without it."""
    slow = {"model.encoder": "slow_networks:Held", "training.updates": 300, "training.validate_every": 100}
    return {**small, **slow}


def until(true: Callable[[], Any]) -> Any:
    """What `true` gives as soon as that is true."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {DEADLINE} s: {true}")


def process_of(folder: Path) -> int:
    """The process that began the job last, by its log."""
    log = log_file(folder)
    found = re.findall(r"process (\d+) of", log.read_text() if log.exists() else "")
    return int(found[-1]) if found else 0


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Does something in a thread, and raises here what went wrong there."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(DEADLINE)
    if errors:
        raise errors[0]


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# The grid


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1", ["1"]),
        ("1,2,3", ["1", "2", "3"]),
        ("[64,32]", ["[64,32]"]),
        ("[40],[64,32]", ["[40]", "[64,32]"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ('a"b,c', ['a"b', "c"]),
        ("[[1,2],3],4", ["[[1,2],3]", "4"]),
        ("[1,2", ["[1,2"]),
        ("a],b", ["a]", "b"]),
        ("1,", ["1", ""]),
        ("", [""]),
    ],
)
def test_values_are_split_outside_brackets_and_quotes(text: str, parts: list[str]) -> None:
    assert split_values(text) == parts


def test_words_are_presets_and_axes() -> None:
    presets, axes = parse_grid(["a", "flow.length=10,2e1", "b", "data.binarisation=fixed,dynamic", "data.path=x=y,z"])
    assert presets == ["a", "b"]
    assert axes == {"flow.length": [10, 20.0], "data.binarisation": ["fixed", "dynamic"], "data.path": ["x=y", "z"]}
    for words, said in ((["seed=0", "seed=1"], "'seed' is given twice"), (["seed=0,,1"], "an empty value")):
        with pytest.raises(ConfigError, match=said):
            parse_grid(words)


def test_jobs_are_the_runs_that_train_makes(small: Settings) -> None:
    jobs = plan([PRESET, "dlgm.full_rank.mnist"], {**small, "model.maxout": ["8-4", "8-2"], "seed": range(2)})
    assert [job.label for job in jobs][:5] == [
        "dlgm.dc.mnist model.maxout=8-4 seed=0",
        "dlgm.dc.mnist model.maxout=8-4 seed=1",
        "dlgm.dc.mnist model.maxout=8-2 seed=0",
        "dlgm.dc.mnist model.maxout=8-2 seed=1",
        "dlgm.full_rank.mnist model.maxout=8-4 seed=0",
    ]
    overrides = {**small, "model.maxout": "8-2", "seed": 1}
    assert jobs[-1].folder == run_folder("dlgm.full_rank.mnist", overrides)
    assert jobs[-1].run.config == resolve("dlgm.full_rank.mnist", overrides)


def test_a_tuple_is_one_value() -> None:
    one, two = plan(PRESET, {"model.latents": [(40,), [64, 32]]})
    assert (one.run.config.model.latents, two.run.config.model.latents) == ((40,), (64, 32))
    (job,) = plan(PRESET, {"model.latents": (64, 32)})
    assert job.run.config.model.latents == (64, 32)
    assert job.label == PRESET


@pytest.mark.parametrize(
    ("presets", "axes", "lines"),
    [
        (
            [],
            {},
            [
                "no config is given: `flowvi configs` lists them; "
                "for example `flowvi sweep dlgm.dc.mnist seed=0,1,2`"
            ],
        ),
        (PRESET, {"flow.lenght": [1, 2]}, ["unknown key 'flow.lenght': did you mean 'flow.length'?"]),
        (
            PRESET,
            {"seed": [0, -1], "training.batch": 0},
            [
                "training.batch cannot be 0: it takes a whole number, 1 or more",
                f"seed cannot be -1: it takes a whole number from 0 to 4294967295 (in {PRESET} seed=-1)",
            ],
        ),
        (
            [PRESET, "dlgm.nf10.mnist"],
            {"training.batch": [0, 100], "seed": [1, 2]},
            [
                "training.batch cannot be 0: it takes a whole number, 1 or more "
                f"(in {PRESET} training.batch=0 seed=1 and 3 more)"
            ],
        ),
        (PRESET, {"seed": []}, ["'seed' has no values: leave it out, or give at least one"]),
        (
            PRESET,
            {"training.batch": [20, 2e1]},
            [
                f"'{PRESET} training.batch=20' and '{PRESET} training.batch=20.0' share the run folder "
                f"{{root}}/{PRESET},training.batch=20/0: leave one of them out"
            ],
        ),
    ],
)  # fmt: skip
def test_all_that_is_wrong_is_said_before_any_work(
    presets: Any, axes: Settings, lines: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        flowvi.sweep(presets, **axes)
    assert str(error.value).splitlines() == [line.replace("{root}", str(tmp_path / "runs")) for line in lines]
    assert not (tmp_path / "runs").exists()


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown config 'dlgm.nf11.mnist': did you mean dlgm.nf10.mnist"):
        flowvi.sweep([PRESET, "dlgm.nf11.mnist"], seed=[0, 1])


def test_a_folder_of_another_config_is_refused_before_any_work(small: Settings) -> None:
    first, second = plan(PRESET, {**small, "seed": [0, 1]})
    Run.create(second.folder, resolve(PRESET, {**small, "seed": 2}))
    with pytest.raises(RunError, match="was made by another config: seed: 2 in the run folder, 1 now"):
        flowvi.sweep(PRESET, seed=[0, 1], **small)
    assert not first.folder.exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": "slurm"}, "engine cannot be 'slurm': it takes one of local, ray"),
        ({"jobs": 0}, "jobs cannot be 0: it takes a whole number, 1 or more"),
        ({"threads": -1}, "threads cannot be -1"),
        ({"gpus": 0.5}, "gpus is for engine=ray"),
        ({"engine": "ray", "gpus": 1.5}, "a fraction up to 1, or a whole number"),
    ],
)
def test_wrong_settings_are_refused(settings: Settings, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        flowvi.sweep(PRESET, **settings)


def test_without_ray_its_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape("engine=ray needs the package ray: pip install 'flowvi[ray]'")):
        flowvi.sweep(PRESET, engine="ray")


# Threads


@pytest.mark.parametrize(
    ("jobs", "threads", "environment", "expected"),
    [
        (None, None, "", (4, 2)),
        (2, None, "", (2, 4)),
        (3, None, "", (3, 2)),
        (100, None, "", (4, 2)),
        (1, None, "", (1, 8)),
        (1, None, "3", (1, 3)),
        (None, 5, "", (4, 5)),
    ],
)
def test_the_cores_are_divided(
    monkeypatch: pytest.MonkeyPatch, jobs: int | None, threads: int | None, environment: str, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", environment)
    with closing(local.Local(plan(PRESET, {"seed": range(4), "device": "cpu"}), jobs, threads)) as engine:
        assert (engine.jobs, engine.threads) == expected


def test_more_jobs_than_cores_have_a_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 2)
    assert local.Local(plan(PRESET, {"seed": range(9), "device": "cpu"}), 5, None).threads == 1


def test_gpus_have_a_job_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_gpus", lambda: 3)
    assert local.Local(plan(PRESET, {"seed": range(9)}), None, None).jobs == 3
    assert local.Local(plan(PRESET, {"seed": range(9), "device": "cpu"}), None, None).jobs == local.cores()


# A whole sweep


def test_a_sweep_does_what_is_left_and_no_more(
    small: Settings, capfd: pytest.CaptureFixture[str], trace: Any, tmp_path: Path
) -> None:
    """One job finished, one trained, one interrupted, one new; then the same again, and a grid that has grown."""
    settings = {**small, "training.updates": 40}
    tested, trained, stopped, new = (job.folder for job in plan(PRESET, {**settings, "seed": range(4)}))
    flowvi.test(flowvi.train(PRESET, seed=0, **settings))
    flowvi.train(PRESET, seed=1, **settings)
    interrupted_at(20, lambda: flowvi.train(PRESET, seed=2, **settings))
    before = snapshot(tested), snapshot(trained / "checkpoints")
    capfd.readouterr()
    outcomes = flowvi.sweep(PRESET, seed=range(4), threads=1, **settings)
    assert [(outcome.state, outcome.earlier) for outcome in outcomes] == [("done", True)] + 3 * [("done", False)]
    assert (snapshot(tested), snapshot(trained / "checkpoints")) == before
    for outcome in outcomes:
        assert outcome.result == json.loads((outcome.job.folder / "result.json").read_text())
    for seed, folder in ((2, stopped), (3, new)):
        whole = flowvi.train(PRESET, seed=seed, out=tmp_path / f"whole{seed}", **settings)
        assert trace(folder) == trace(whole.folder)
    assert "threads: 1\n" in log_file(new).read_text()

    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if "seed=0" in line] == []
    assert next(line.split()[0] for line in said if "seed=1" in line) == "testing"
    lines = [line for line in said if f"{PRESET} seed=3" in line]
    assert lines[0] == f"training  {PRESET} seed=3"
    assert re.fullmatch(rf"done      {PRESET} seed=3: F [\d.]+, −ln p [\d.]+, \d+ s of training", lines[-1])

    before = snapshot(tmp_path / "runs")
    again = flowvi.sweep(PRESET, seed=range(4), **settings)
    assert [(outcome.state, outcome.earlier, outcome.result) for outcome in again] == [
        ("done", True, outcome.result) for outcome in outcomes
    ]
    assert snapshot(tmp_path / "runs") == before


def test_jobs_of_another_test_than_the_default_one(small: Settings) -> None:
    (job,) = plan(PRESET, small)
    flowvi.train(PRESET, **small)
    (first,) = sweep_jobs([replace(job, tests=(Sampling(7, 20),))])
    assert first.result is not None
    assert (first.result["samples"], first.result["images"]) == (7, 20)
    assert sorted(path.name for path in job.folder.glob("result*.json")) == ["result-is-7-images20.json"]
    (again,) = sweep_jobs([replace(job, tests=(Sampling(7, 20),))])
    assert (again.earlier, again.result) == (True, first.result)


def interrupted_at(update: int, call: Callable[[], Any]) -> None:
    from flowvi.experiments.engine import Engine

    step = Engine.step

    def stop(engine: Engine) -> None:
        step(engine)
        if engine.update == update:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "step", stop)
        with pytest.raises(InterruptedRun):
            call()


def test_a_failed_job_is_kept_and_tried_again_only_if_asked(small: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = ["broken_networks:NaNLoss", "broken_networks:Plain"]
    grid = {**small, "model.encoder": networks}
    broken, good = flowvi.sweep(PRESET, **grid)
    assert (broken.state, good.state) == ("failed", "done")
    assert broken.message.startswith("update 6: loss")
    folder = broken.job.folder
    assert (folder / "failure.txt").read_text() == f"{broken.message}\n"
    assert "NonFiniteError" in log_file(folder).read_text()

    monkeypatch.setenv("BREAKS_AT", "1000")
    before = snapshot(folder)
    again = flowvi.sweep(PRESET, **grid)
    assert [(outcome.state, outcome.earlier) for outcome in again] == [("failed", True), ("done", True)]
    assert again[0].message == broken.message
    assert snapshot(folder) == before

    retried = flowvi.sweep(PRESET, retry=True, **grid)
    assert [(outcome.state, outcome.earlier) for outcome in retried] == [("done", False), ("done", True)]
    assert failure(folder) is None


def test_a_killed_worker_takes_no_other_job_with_it(held: Settings, hold: Path) -> None:
    settings = {**held, "training.checkpoint_every": 10}
    first, _ = plan(PRESET, {**settings, "seed": [0, 1]})
    kept: list[str] = []

    def kill() -> None:
        until(first.run.checkpoint.exists)
        os.kill(process_of(first.folder), signal.SIGKILL)
        kept.extend(first.run.metrics.read_text().splitlines()[:1])  # its clock tells whether it was done again
        hold.unlink()

    with meanwhile(kill):
        killed, other = flowvi.sweep(PRESET, seed=[0, 1], jobs=2, **settings)
    assert (killed.state, other.state) == ("failed", "done")
    assert "was killed by SIGKILL" in killed.message
    assert failure(first.folder) == killed.message
    done, _ = flowvi.sweep(PRESET, seed=[0, 1], retry=True, **settings)
    assert done.state == "done"
    assert first.run.metrics.read_text().splitlines()[:1] == kept


# What a job's process does, in this one


@pytest.fixture
def _threads_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_use", lambda threads: None)


@pytest.mark.usefixtures("_threads_stay")
def test_a_run_that_another_process_holds_is_not_its_failure(small: Settings) -> None:
    (job,) = plan(PRESET, small)
    run = Run.create(job.folder, job.run.config)
    with run.locked():
        state, message = worker.work(str(run.folder), 1)
    assert state == "busy"
    assert message.startswith("another process is training in")
    assert failure(run.folder) is None


@pytest.mark.usefixtures("_threads_stay")
def test_whatever_goes_wrong_is_one_line(small: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = plan(PRESET, small)
    Run.create(job.folder, job.run.config)

    def fail(run: Run) -> None:
        raise ZeroDivisionError("one\n  two")

    monkeypatch.setattr("flowvi.experiments.train.train_run", fail)
    assert worker.work(str(job.folder), 1) == ("failed", "ZeroDivisionError: one; two")
    assert failure(job.folder) == "ZeroDivisionError: one; two"
    assert "Traceback" in log_file(job.folder).read_text()

    def stop(run: Run) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flowvi.experiments.train.train_run", stop)
    assert worker.work(str(job.folder), 1) == ("stopped", "asked to stop")


def test_a_job_that_is_done_but_left_no_result(small: Settings) -> None:
    (job,) = plan(PRESET, small)
    outcome = _outcome(job, "done", "")
    assert (outcome.state, failure(job.folder)) == ("failed", None)
    assert "is its disk shared with the cluster?" in outcome.message


# What a person sees


def test_metrics_that_are_being_written(small: Settings) -> None:
    (job,) = plan(PRESET, small)
    assert last_metrics(job.run) == {}
    run = Run.create(job.folder, job.run.config)
    lines = [json.dumps({"update": n, "free_energy": 1.0, "seconds": 2.0, "x": "y" * 400}) for n in range(40)]
    run.metrics.write_text("\n".join([*lines, '{"update": 40, "validation_free_energy": 3.0}', '{"update": 4']))
    assert last_metrics(run)["update"] == 39


def test_the_table_of_a_terminal(
    small: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    jobs = plan(PRESET, {**small, "model.latents": [[n] for n in range(1, 13)]})
    keep_to = Run.create(jobs[10].folder, jobs[10].run.config)
    keep_to.metrics.write_text('{"update": 20, "free_energy": 12.345, "seconds": 7.0}\n')
    with Board(jobs) as board:
        board.ended(Outcome(jobs[0], "done", result={"free_energy": 99.5, "nll": 94.25, "train_seconds": 60.0}))
        board.ended(Outcome(jobs[11], "failed", message="why"))
        board.handed_over(jobs[10])
        board.refresh()
        log_file(jobs[10].folder).write_text("begun\n")
        board.refresh()
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", capsys.readouterr().err)  # without colours
    assert "1 done, 9 waiting, 1 failed, 1 training" in shown
    assert re.search(r"model.latents=\[11\]\S*\s+training\s+20/30\s+7\s+12\.35", shown)
    assert re.search(r"model.latents=\[12\]\S*\s+failed", shown)
    assert "… and 1 done, 7 waiting" in shown


# Processes asked to stop


def start_sweep(words: list[str], *options: str) -> subprocess.Popen[str]:
    """As a terminal starts it: a process group of its own, to which Ctrl-C goes."""
    return subprocess.Popen(
        [sys.executable, "-m", "flowvi", "sweep", PRESET, *words, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_ctrl_c_saves_and_the_same_command_goes_on(held: Settings, hold: Path, words: Callable[..., list[str]]) -> None:
    settings = {**held, "training.checkpoint_every": 10_000, "training.validate_every": 10_000}
    jobs = plan(PRESET, {**settings, "seed": [0, 1]})
    spelled = words({**settings, "model.latents": [2]}, seed="0,1")
    process = start_sweep(spelled, "--jobs=1")
    until(lambda: process.poll() is not None or jobs[0].run.metrics.exists())
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == (
        "flowvi: stopped with 0 of 2 jobs done; what was trained is saved, and the same command goes on from there"
    )
    assert "Traceback" not in said
    assert 0 < read_checkpoint(jobs[0].run.checkpoint)["update"] < 300
    assert not jobs[1].folder.exists()
    assert [failure(job.folder) for job in jobs] == [None] * 2

    hold.unlink()
    process = start_sweep(spelled, "--jobs=2")
    out, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, said
    assert out.splitlines()[-1] == "2 jobs: 2 done"


def test_jobs_save_and_stop_where_the_sweep_was_killed(
    held: Settings, hold: Path, words: Callable[..., list[str]]
) -> None:
    settings = {**held, "training.checkpoint_every": 10_000, "training.validate_every": 10_000}
    (job,) = plan(PRESET, settings)
    process = start_sweep(words({**settings, "model.latents": [2]}))
    until(lambda: process.poll() is not None or job.run.metrics.exists())
    process.kill()
    process.communicate()
    until(job.run.checkpoint.exists)
    until(lambda: is_free(job.run))
    assert not job.run.finished


def is_free(run: Run) -> bool:
    try:
        with run.locked():
            return True
    except RunError:
        return False


# Ray


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'flowvi[ray]'")
@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_is_not_there_is_told_at_once(
    address: str, small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # a port that is taken, where nobody listens
        given = address.format(nobody.getsockname()[1])
        monkeypatch.setenv("RAY_ADDRESS", given)
        with pytest.raises(RunError, match=re.escape(f"cannot reach the Ray cluster at RAY_ADDRESS={given}: ")):
            flowvi.sweep(PRESET, engine="ray", seed=[0], **small)


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'flowvi[ray]'")
def test_ray_resumes_a_job_whose_worker_was_killed(
    held: Settings, hold: Path, trace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray")
    settings = {**held, "training.checkpoint_every": 10}
    first, _ = plan(PRESET, {**settings, "seed": [0, 1]})
    killed: list[int] = []
    kept: list[str] = []

    def kill() -> None:
        until(first.run.checkpoint.exists)
        killed.append(process_of(first.folder))
        os.kill(killed[0], signal.SIGKILL)
        kept.extend(first.run.metrics.read_text().splitlines()[:2])  # up to the first checkpoint, clocks included
        hold.unlink()

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        with meanwhile(kill):
            outcomes = flowvi.sweep(PRESET, engine="ray", seed=[0, 1], **settings)
        assert ray.is_initialized(), "whoever started Ray ends it"
    finally:
        ray.shutdown()
    assert [(outcome.state, outcome.message) for outcome in outcomes] == [("done", ""), ("done", "")]
    assert process_of(first.folder) != killed[0]
    assert first.run.metrics.read_text().splitlines()[:2] == kept
    whole = flowvi.train(PRESET, out=tmp_path / "whole", **settings)
    assert trace(first.folder) == trace(whole.folder)
