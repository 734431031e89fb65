"""Turns at a file: one process at a time, whatever becomes of the others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from flowvi.errors import RunError
from flowvi.experiments import turns
from flowvi.experiments.lines import read_lines, write_lines
from flowvi.experiments.turns import in_turn

Start = Callable[..., "subprocess.Popen[str]"]

HOLD = """
with in_turn(path):
    print("in turn", flush=True)
    sys.stdin.read()
"""
ADD = """
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    with in_turn(path):
        write_lines(path, [*read_lines(path), {"who": sys.argv[2], "number": number}])
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program that is given a file, and waits for its first line."""
    started: list[subprocess.Popen[str]] = []

    def run(program: str, *words: str) -> subprocess.Popen[str]:
        head = (
            "import sys; from pathlib import Path; from flowvi.experiments.turns import in_turn\n"
            "from flowvi.experiments.lines import read_lines, write_lines; path = Path(sys.argv[1])\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", head + program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline()
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_processes_that_add_to_a_file_lose_nothing(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "new" / "all.jsonl"
    both = [start(ADD, str(file), who) for who in "ab"]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait(60) for process in both] == [0, 0]
    found = [(record["who"], record["number"]) for record in read_lines(file)]
    assert sorted(found) == [(who, number) for who in "ab" for number in range(30)]


def test_others_wait_and_a_killed_process_is_no_obstacle(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "all.jsonl"
    holder = start(HOLD, str(file))
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.1)
    held = r"cannot write .*: another process has held .*\.all\.jsonl\.lock"
    with pytest.raises(RunError, match=held) as error, in_turn(file):
        pass
    assert "\n" not in str(error.value)
    with in_turn(tmp_path / "other.jsonl"):
        pass
    holder.kill()
    holder.communicate()
    assert (tmp_path / ".all.jsonl.lock").exists()
    with in_turn(file):
        write_lines(file, [{}])
    assert read_lines(file) == [{}]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RunError, OSError])
def test_what_ends_a_turn_early_gives_it_up(error: type[BaseException], tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    for _ in range(2):
        with pytest.raises(error, match=r"^mine$"), in_turn(file):
            raise error("mine")


def test_an_interrupt_while_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "all.jsonl"
    with monkeypatch.context() as patch, FileLock(tmp_path / ".all.jsonl.lock"):
        patch.setattr("time.sleep", interrupted)
        with pytest.raises(KeyboardInterrupt), in_turn(file):
            pass
    with in_turn(file):
        pass


def test_a_folder_that_cannot_be_made_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(self: FileLock) -> None:
        raise OSError(30, "Read-only file system")

    (tmp_path / "file").write_text("mine")
    below, message = tmp_path / "file" / "new" / "all.jsonl", "cannot make the folder .*: Not a directory; name another"
    with pytest.raises(RunError, match=message), in_turn(below, "name another"):
        pass
    monkeypatch.setattr(FileLock, "_acquire", read_only)
    message = r"cannot write .*all\.jsonl: Read-only file system\. What was there before is untouched"
    with pytest.raises(RunError, match=message), in_turn(tmp_path / "all.jsonl"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
