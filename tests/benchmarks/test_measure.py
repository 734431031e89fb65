"""The stopwatch and the program around it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

measure = pytest.importorskip("benchmarks.measure", reason="the benchmarks are only in the checkout")


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    """The program sets torch's threads for the whole process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_spread() -> None:
    spread = measure.Spread.of([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (spread.median, spread.lower, spread.upper) == (3.0, 2.0, 4.0)
    assert (spread.least, spread.most, spread.count) == (1.0, 5.0, 5)


def test_blocks_alternate_after_a_warm_up_of_both() -> None:
    calls = []
    earlier, flowvi = measure.Job(lambda: calls.append("a")), measure.Job(lambda: calls.append("b"))
    result = measure.duel(earlier, flowvi, pairs=3, calls=2, warmup=1)
    assert "".join(calls) == "aabb" + "aabb" + "bbaa" + "aabb"
    assert result.earlier.count == result.flowvi.count == result.ratio.count == 3


def test_times_are_for_each_unit_and_the_ratio_is_above_1_where_flowvi_is_faster() -> None:
    slow, fast = measure.Job(lambda: time.sleep(0.04), units=2), measure.Job(lambda: time.sleep(0.002))
    result = measure.duel(slow, fast, pairs=2)
    assert result.earlier.median >= 20
    assert 2 <= result.flowvi.median < result.earlier.median
    assert result.ratio.median > 1


def test_one_pair_has_no_spread() -> None:
    job = measure.Job(lambda: None)
    with pytest.raises(ValueError, match="at least 2"):
        measure.duel(job, job, pairs=1)


def test_the_program_prints_a_table_and_writes_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = pytest.importorskip("benchmarks.__main__")
    monkeypatch.setattr(program, "BRIEF", program.Effort(pairs=2, steps=1, test_pairs=2, images=2, samples=3))
    out = tmp_path / "folder" / "record.json"
    words = [
        "--brief",
        "--threads=1",
        "--train=10",
        "--test=0",
        f"--out={out}",
        "data.binarisation=threshold",
    ]
    assert program.main(words) == 0
    printed = capsys.readouterr().out
    assert "K = 10" in printed and "K = 0" in printed
    record = json.loads(out.read_text(encoding="utf-8"))
    assert [(row["job"], row["length"]) for row in record["results"]] == [
        ("training_step", 10),
        ("evidence", 0),
    ]
    assert all(row["ratio"]["median"] > 0 for row in record["results"])
    assert record["machine"]["threads"] == 1
    assert record["configs"]["10"]["data"]["binarisation"] == "threshold"


def test_a_wrong_override_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = pytest.importorskip("benchmarks.__main__")
    out = tmp_path / "record.json"
    assert program.main(["--brief", f"--out={out}", "flow.lenght=3"]) == 1
    assert "flow.length" in capsys.readouterr().err
    assert not out.exists()
