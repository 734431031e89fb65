"""Run folders: made, found, refused, locked, and written whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flowvi
from flowvi.errors import RunError
from flowvi.experiments import run as run_module
from flowvi.experiments.config import resolve
from flowvi.experiments.run import Run, append_line, as_run, atomic_write, truncate_lines

CONFIG = resolve("dlgm.nf10.mnist", {"training.updates": 30})


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.part"))


def test_a_run_is_made_once_and_found_again(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "a" / "b", CONFIG)
    assert json.loads((made.folder / "config.json").read_text()) == CONFIG.to_dict()
    assert Run.create(made.folder, CONFIG) == made == Run.at(made.folder) == as_run(str(made.folder))
    assert as_run(made) is made
    assert not made.finished


def test_another_config_is_refused_by_its_difference_and_nothing_is_touched(tmp_path: Path) -> None:
    run = Run.create(tmp_path, CONFIG)
    before = run.folder.joinpath("config.json").stat()
    with pytest.raises(RunError, match=r"training\.updates: 30 in the run folder, 31 now") as error:
        Run.create(tmp_path, resolve("dlgm.nf10.mnist", {"training.updates": 31}))
    assert "\n" not in str(error.value)
    assert run.folder.joinpath("config.json").stat().st_mtime_ns == before.st_mtime_ns


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no config\.json"):
        Run.at(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        Run.at(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"null", b'{"preset": 3}', b'{"preset": "x"}'])
def test_a_config_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RunError, match=r"config\.json") as error:
        Run.at(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(RunError):
        Run.create(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_bytes() == content


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for folder in (file, file / "run"):
        with pytest.raises(RunError, match="cannot"):
            Run.create(folder, CONFIG)
        with pytest.raises(RunError):
            Run.at(folder)
    assert file.read_text() == "mine"


def test_the_folder_of_all_runs_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: dict[str, Any]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    monkeypatch.setenv("FLOWVI_RUNS", str(file))
    with pytest.raises(RunError, match="cannot make the run folder"):
        flowvi.train("dlgm.nf10.mnist", **tiny)


def test_the_second_to_lock_is_refused_at_once(tmp_path: Path) -> None:
    run = Run.create(tmp_path, CONFIG)
    with run.locked(), pytest.raises(RunError, match="another process is training"), run.locked():
        pass
    with run.locked():
        pass


def test_the_lock_of_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from flowvi.experiments.run import Run\n"
        "with Run.at(sys.argv[1]).locked(): print('locked', flush=True); sys.stdin.read()"
    )
    run = Run.create(tmp_path, CONFIG)
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(RunError, match="another process"), run.locked():
        pass
    holder.kill()
    holder.communicate()
    assert (tmp_path / ".lock").exists()
    with run.locked():
        pass


def test_a_folder_that_cannot_be_locked(tmp_path: Path) -> None:
    run = Run.create(tmp_path, CONFIG)
    (tmp_path / ".lock").mkdir()
    with pytest.raises(RunError, match="cannot write to the run folder"), run.locked():
        pass


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "f"
    with atomic_write(file) as out:
        out.write(b"one")
    with pytest.raises(KeyboardInterrupt), atomic_write(file) as out:
        out.write(b"two")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_what_the_system_refuses_is_one_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"one")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module.os if call == "fsync" else Path, call, refuse)
    with pytest.raises(RunError, match=r"No space left on device.*untouched"), atomic_write(file) as out:
        out.write(b"two")
    monkeypatch.undo()
    assert file.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["f"]


def test_a_file_under_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"one")
    with pytest.raises(RunError, match="Not a directory"), atomic_write(tmp_path / "f" / "g") as out:
        out.write(b"two")
    with pytest.raises(RunError, match="Not a directory"):
        append_line(tmp_path / "f" / "g", {})


def test_lines_are_dropped_after_an_update(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    truncate_lines(file, 3)
    assert not file.exists()
    for update in (1, 2, 2, 3, 4):
        append_line(file, {"update": update})
    truncate_lines(file, 2)
    assert file.read_text() == '{"update": 1}\n{"update": 2}\n{"update": 2}\n'
    truncate_lines(file, 0)
    assert file.read_text() == ""


@pytest.mark.parametrize(
    "end",
    [
        b'{"update": 2',
        b'{"update": 2}',
        b"\0\0\0\0\n",
        b"\xff\xfe\n",
        b"7\n",
        b"[]\n",
        b"{}\n",
        b'{"update": null}\n',
    ],
)
def test_a_damaged_end_is_dropped(tmp_path: Path, end: bytes) -> None:
    file = tmp_path / "m.jsonl"
    file.write_bytes(b'{"update": 1}\n' + end)
    truncate_lines(file, 5)
    assert file.read_bytes() == b'{"update": 1}\n'
    assert hidden(tmp_path) == []


def test_weights_without_their_config_are_not_taken_for_a_finished_run(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"without its config\.json"):
        Run.create(tmp_path, CONFIG)
