"""Real processes, killed and asked to stop at random moments."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowvi
from flowvi.experiments.checkpoints import read_checkpoint

Settings = dict[str, Any]
Trace = Callable[[Path], dict[str, Any]]
PRESET = "dlgm.nf10.mnist"
LONG = {"training.updates": 150, "training.checkpoint_every": 7, "training.validate_every": 20}


@pytest.fixture(scope="module")
def seed() -> int:
    return random.SystemRandom().randrange(10**6)


def wait_for_lines(file: Path, lines: int, process: subprocess.Popen[str]) -> None:
    """Until the process has logged so much."""
    for _ in range(12_000):
        if file.exists() and file.read_bytes().count(b"\n") >= lines:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    raise AssertionError("no metrics within a minute")


def results_of(folder: Path) -> dict[str, Any]:
    result = flowvi.test(folder, samples=5)
    return {key: value for key, value in result.items() if key not in ("train_seconds", "test_seconds")}


def kill_and_resume(
    settings: Settings, folder: Path, command: Any, words: Callable[..., list[str]], draw: random.Random
) -> None:
    lines = settings["training.updates"] // settings["training.log_every"]
    after, delay = draw.randrange(1, lines // 2), draw.uniform(0, 0.05)
    process = command("train", f"--config={PRESET}", *words(settings), f"--out={folder}")
    wait_for_lines(folder / "metrics.jsonl", after, process)
    time.sleep(delay)
    process.kill()
    process.communicate()
    done = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["update"]
    print(f"killed {delay:.3f} s after {after} lines of metrics, at update {done} or later")
    assert not (folder / "model.safetensors").exists(), "choose more updates: the run was over"
    flowvi.train(PRESET, out=folder, **settings)


def test_a_run_killed_at_a_random_moment_ends_as_one_that_was_not(
    tiny: Settings, tmp_path: Path, command: Any, words: Callable[..., list[str]], trace: Trace, seed: int
) -> None:
    print(f"seed {seed}")
    settings = {**tiny, **LONG}
    kill_and_resume(settings, tmp_path / "broken", command, words, random.Random(seed))
    flowvi.train(PRESET, out=tmp_path / "whole", **settings)
    assert trace(tmp_path / "broken") == trace(tmp_path / "whole")
    assert results_of(tmp_path / "broken") == results_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"data.binarisation": "dynamic", "training.batch": 150},
        {"training.checkpoint_seconds": 1e-6, "training.checkpoint_every": 10_000},
        {"training.protocol": "paper", "training.learning_rate": 1e-3},
        {"training.objective": "iwae", "training.samples": 3, "model.latents": [3, 2]},
    ],
)
def test_whatever_the_settings_and_moments(
    tiny: Settings, grey: Path, tmp_path: Path, command: Any, words: Callable[..., list[str]], trace: Trace,
    seed: int, more: Settings,
) -> None:  # fmt: skip
    settings = {**tiny, **LONG, "training.updates": 400, "data.path": str(grey), **more}
    flowvi.train(PRESET, out=tmp_path / "whole", **settings)
    for repeat in range(3):
        print(f"seed {seed + repeat}")
        folder = tmp_path / f"broken{repeat}"
        kill_and_resume(settings, folder, command, words, random.Random(seed + repeat))
        assert trace(folder) == trace(tmp_path / "whole")


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_saves_and_the_same_command_goes_on(
    tiny: Settings, tmp_path: Path, command: Any, words: Callable[..., list[str]], trace: Trace, which: int
) -> None:
    settings = {**tiny, **LONG, "training.checkpoint_every": 10_000}
    folder = tmp_path / "stopped"
    process = command("train", f"--config={PRESET}", *words(settings), f"--out={folder}")
    wait_for_lines(folder / "metrics.jsonl", 3, process)
    process.send_signal(which)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    message = said.strip().splitlines()[-1]
    assert message.startswith("flowvi: stopped at update "), said
    assert "Traceback" not in said
    saved = read_checkpoint(folder / "checkpoints" / "last.pt")["update"]
    assert f"update {saved:,} of" in message
    flowvi.train(PRESET, out=folder, **settings)
    flowvi.train(PRESET, out=tmp_path / "whole", **settings)
    assert trace(folder) == trace(tmp_path / "whole")


@pytest.mark.slow
def test_the_command_says_what_is_wrong_in_a_line(
    tiny: Settings, tmp_path: Path, command: Any, words: Callable[..., list[str]]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    run = flowvi.train(PRESET, out=tmp_path / "run", **tiny)
    broken = flowvi.train(PRESET, out=tmp_path / "broken", **tiny)
    broken.weights.write_bytes(b"damaged")
    broken.weights.with_name("config.json").write_text("{")
    calls = {
        "another config": command("train", f"--config={PRESET}", *words(tiny, seed=1), f"--out={run.folder}"),
        "a file": command("train", f"--config={PRESET}", *words(tiny), f"--out={file}"),
        "non-finite": command(
            "train", f"--config={PRESET}", *words(tiny, **{"model.decoder": "broken_networks:NaNGradient"})
        ),
        "no run": command("test", str(tmp_path / "nowhere")),
        "bad config": command("test", str(broken.folder)),
    }
    for name, process in calls.items():
        _, said = process.communicate(timeout=100)
        assert process.returncode in (1, 2), (name, said)
        complaints = [line for line in said.splitlines() if not line.startswith("update ")]
        complaints += [line for line in said.splitlines() if line.startswith("update ") and "updates/s" not in line]
        assert len(complaints) == 1, (name, said)
        assert complaints[0].startswith("flowvi: "), (name, said)
    finished = command("train", f"--config={PRESET}", *words(tiny), f"--out={run.folder}")
    said, _ = finished.communicate(timeout=60)
    assert finished.returncode == 0
    assert "finished before: nothing to do" in said
