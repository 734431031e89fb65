"""Data-parallel training: two processes do what one does, and stop as one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import flowvi
from flowvi.errors import CheckpointError, RunError
from flowvi.experiments.config import resolve
from flowvi.experiments.engine import make_fabric
from flowvi.experiments.run import Run
from flowvi.experiments.train import _of_a_process

Settings = dict[str, Any]
PRESET = "dlgm.nf10.mnist"


def test_two_processes_are_one(tiny: Settings, grey: Path, tmp_path: Path, trace: Any) -> None:
    import shares

    config = resolve(PRESET, {**tiny, "devices": 2, "training.samples": 2, "training.objective": "iwae"})
    settings = {**tiny, "data.path": str(grey), "data.binarisation": "dynamic", "training.batch": 107}
    run = Run.create(tmp_path / "two", resolve(PRESET, {**settings, "devices": 2}))  # 107, 107, 106; 53 and 54
    measured, outcome = make_fabric(config).launch(shares.measure_and_train, config, run.folder)
    assert outcome == ("finished", "")

    alone = resolve(PRESET, {**tiny, "training.samples": 2, "training.objective": "iwae"})
    expected = shares.measure(make_fabric(alone), alone)
    assert len(measured) == len(shares.SIZES) + 1
    for (gradient, means), (joint, joint_means) in zip(measured[:-1], expected[:-1], strict=True):
        assert gradient == pytest.approx(joint, rel=1e-4, abs=1e-6)
        assert means == pytest.approx(joint_means, rel=1e-5)
        assert sum(map(abs, gradient)) > 0.01
    assert measured[-1] == expected[-1]
    assert measured[-1].startswith("update 5: loss")

    one = flowvi.train(PRESET, out=tmp_path / "one", **settings)
    a, b = load_file(one.weights), load_file(run.weights)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5)
    ours, theirs = trace(one.folder)["metrics"], trace(run.folder)["metrics"]
    assert [line["update"] for line in ours] == [line["update"] for line in theirs]
    for line, other in zip(ours, theirs, strict=True):
        assert line == pytest.approx(other, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("last", "kind", "message"),
    [
        (
            "flowvi.errors.CheckpointError: it is damaged: remove it",
            CheckpointError,
            "it is damaged: remove it",
        ),
        ("flowvi.errors.RunError: cannot write x", RunError, "cannot write x"),
    ],
)
def test_an_error_of_a_process_is_told_as_it_is(last: str, kind: type, message: str) -> None:
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    start = "\n\n-- Process 0 terminated with the following error:\nTraceback (most recent call last):"
    trace = f"{start}\n  …\n{last}\n"
    found = _of_a_process(ProcessRaisedException(trace, 0, 1))
    assert (type(found), str(found)) == (kind, message)
    bug = ProcessRaisedException(trace.replace(last, "ZeroDivisionError: division by zero"), 0, 1)
    assert _of_a_process(bug) is bug
    killed = ProcessExitedException("process 1 terminated with signal SIGKILL", 1, 1, -9, "SIGKILL")
    assert "process 1 terminated with signal SIGKILL" in str(_of_a_process(killed))


def wait_for(file: Path, process: Any, lines: int = 2) -> None:
    for _ in range(1200):
        if file.exists() and file.read_bytes().count(b"\n") >= lines:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no metrics within a minute")


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_of_two_processes_saves(
    tiny: Settings, tmp_path: Path, command: Any, words: Callable[..., list[str]], trace: Any, which: int
) -> None:
    settings = {**tiny, "devices": 2, "training.updates": 400, "training.checkpoint_every": 1000}
    run = tmp_path / "run"
    process = command("train", f"--config={PRESET}", *words(settings), f"--out={run}")
    wait_for(run / "metrics.jsonl", process)
    process.send_signal(which)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("flowvi: stopped at update"), said
    assert "Traceback" not in said
    again = command("train", f"--config={PRESET}", *words(settings), f"--out={run}")
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    whole = command("train", f"--config={PRESET}", *words(settings), f"--out={tmp_path / 'whole'}")
    assert whole.wait(120) == 0
    assert trace(run) == trace(tmp_path / "whole")


@pytest.mark.slow
def test_errors_of_processes_are_one_line(
    tiny: Settings, tmp_path: Path, command: Any, words: Callable[..., list[str]]
) -> None:
    settings = {**tiny, "devices": 2}
    blocked = tmp_path / "blocked"
    (blocked / "metrics.jsonl").mkdir(parents=True)
    cases = [  # of every process, and of the first alone
        (words(settings, **{"data.path": "no.npz"}), "does not exist"),
        ([*words(settings), f"--out={blocked}"], "cannot read"),
    ]
    for arguments, says in cases:  # one after the other, for they choose their port before they take it
        process = command("train", f"--config={PRESET}", *arguments)
        _, said = process.communicate(timeout=200)
        assert process.returncode == 1, said
        assert says in said, said
        assert said.count("flowvi: ") == 1, said
        assert "Traceback" not in said, said


@pytest.mark.slow
def test_a_write_that_fails_in_the_first_process_stops_both(
    tiny: Settings, tmp_path: Path, command: Any, words: Callable[..., list[str]]
) -> None:
    settings = {**tiny, "devices": 2, "training.updates": 4000}
    run = tmp_path / "run"
    process = command("train", f"--config={PRESET}", *words(settings), f"--out={run}")
    wait_for(run / "metrics.jsonl", process)
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    _, said = process.communicate(timeout=100)
    assert process.returncode == 1, said
    assert "flowvi: cannot write" in said, said
    assert "Traceback" not in said, said
