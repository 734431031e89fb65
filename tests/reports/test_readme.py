"""The README's blocks: made from results, checked, and refused where they are malformed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowvi.flows.registry import FAMILIES
from flowvi.reports.readme import BLOCKS, main
from flowvi.reports.tables import result_table

README = (
    "# A title\n\n<!-- results:fixed -->\n<!-- /results -->\n\nProse.\n\n"
    "<!-- results:{} -->\nold\n<!-- /results -->\nEnd.\n"
)


@pytest.fixture
def readme(tmp_path: Path, record: dict[str, Any]) -> Path:
    (tmp_path / "results").mkdir()
    lines = [
        json.dumps(record),
        json.dumps({**record, "protocol": "quick", "binarisation": "dynamic", "nll": float("nan")}),
    ]
    (tmp_path / "results" / "planar.jsonl").write_text("\n".join(lines) + "\n")
    file = tmp_path / "README.md"
    file.write_text(README.format("transcript"))
    return file


def test_blocks_are_written_and_the_rest_is_left(readme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(readme)]) == 0
    assert "results:fixed written anew" in capsys.readouterr().out
    text = readme.read_text()
    assert text.startswith("# A title\n\n<!-- results:fixed -->\n\n| posterior |")
    assert "| 94.65 ± 0.24 |" in text
    assert "old" not in text
    assert "```text\nmodel " in text and "NaN" in text
    assert "\n<!-- /results -->\n\nProse.\n\n<!-- results:transcript -->\n" in text
    assert text.endswith("\n<!-- /results -->\nEnd.\n")
    assert main([str(readme)]) == 0
    assert readme.read_text() == text
    assert main(["--check", str(readme)]) == 0


def test_a_result_in_two_files_is_one_result_and_ablations_are_none(readme: Path, record: dict[str, Any]) -> None:
    for name, changes in (("figure4", {"arms": ["planar-20"]}), ("ablations", {"config_hash": "other"})):
        (readme.parent / "results" / f"{name}.jsonl").write_text(json.dumps({**record, **changes}) + "\n")
    main([str(readme)])
    rows = [line for line in readme.read_text().splitlines() if "**flowvi, modern**" in line]
    assert len(rows) == 1
    assert "| 94.65 ± 0.24 | 4.53 ± 0.02 | 90.12 ± 0.23 | 1 |" in rows[0]


def test_check_names_the_stale_block_and_changes_nothing(readme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(readme)])
    text = readme.read_text().replace("94.65 ± 0.24 |", "91.65 ± 0.24 |")
    readme.write_text(text)
    capsys.readouterr()
    assert main(["--check", str(readme)]) == 1
    assert capsys.readouterr().out == f"{readme}: results:fixed is stale\n"
    assert readme.read_text() == text


def test_the_transcript_is_the_table_of_the_quick_run(readme: Path, record: dict[str, Any]) -> None:
    quick = {**record, "protocol": "quick", "binarisation": "dynamic", "nll": float("nan")}
    assert BLOCKS["transcript"](readme.parent) == f"```text\n{result_table(quick)}\n```"


def test_without_results_every_block_says_so(tmp_path: Path) -> None:
    blocks = {name: block(tmp_path) for name, block in BLOCKS.items() if name != "families"}  # the registry's own
    assert set(blocks.values()) == {"*No results yet.*"}


def test_the_families_are_the_registrys(tmp_path: Path) -> None:
    lines = BLOCKS["families"](tmp_path).splitlines()
    assert len(lines) == 2 + len(FAMILIES)
    for entry in FAMILIES.values():
        file = entry.target.partition(":")[0].replace(".", "/")
        assert any(f"(src/{file}.py)" in line and entry.reference in line for line in lines)


def test_the_families_side_by_side_have_a_file_of_their_own(tmp_path: Path, record: dict[str, Any]) -> None:
    (tmp_path / "results").mkdir()
    extra = {"parameter_count": 1_234_567, "updates": 5_000, "flow_options": "bottleneck=8"}
    worse = {**record, **extra, "flow": "sylvester", "nll": 99.0}
    rows = [worse, {**record, **extra, "flow": "iaf", "flow_options": None}]
    (tmp_path / "results" / "flows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert BLOCKS["fixed"](tmp_path) == "*No results yet.*"
    table = BLOCKS["flows"](tmp_path).splitlines()
    assert table[2].startswith("| IAF, K = 20 |  | 94.65 ± 0.24 |")
    assert "| Sylvester flow, K = 20 | bottleneck=8 |" in table[3]
    assert table[3].endswith("| 1,234,567 | – | – |")


def test_the_families_times_are_those_of_the_benchmark(tmp_path: Path, record: dict[str, Any]) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "flows.jsonl").write_text(json.dumps({**record, "parameter_count": 5}) + "\n")
    spread = {"time": {"median": 12.34, "lower": 11.0, "upper": 13.0}}
    timed = {"step": {record["config"]: spread}, "evidence": {record["config"]: spread}, "machine": {"threads": 2}}
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "flows.json").write_text(json.dumps(timed))
    table = BLOCKS["flows"](tmp_path)
    assert "| 5 | 12.3 [11.0, 13.0] | 12.3 [11.0, 13.0] |" in table
    assert "2 threads" in table


def test_benchmarks(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks" / "results" / "foundation.json"
    file.parent.mkdir(parents=True)
    spread = {"median": 84.96, "lower": 83.0, "upper": 90.04, "least": 1.0, "most": 99.0, "count": 20}
    ratio = {"median": 1.7, "lower": 1.6, "upper": 1.8, "least": 1.0, "most": 2.0, "count": 20}
    rows = [
        {"job": job, "length": 80, "earlier": spread, "flowvi": {**spread, "median": 9.5}, "ratio": ratio}
        for job in ("training_step", "evidence")
    ]
    machine = {
        "processor": "A processor",
        "threads": 2,
        "python": "3.11.7",
        "torch": "2.13.0",
        "time": "2025-11-22T20:00",
    }
    record = {
        "baseline": "theirs",
        "batch": 100,
        "effort": {"samples": 200},
        "machine": machine,
        "results": rows,
    }
    file.write_text(json.dumps(record))
    block = BLOCKS["benchmarks"](tmp_path)
    cells = "| 80 | 85.0 [83.0, 90.0] | 9.50 [83.00, 90.04] | **1.70 × [1.60, 1.80]** |"
    assert f"| training step, batch 100 {cells}\n| −ln p(x) of an image, S = 200 {cells}\n" in block
    assert "A processor, 2 threads, Python 3.11.7, torch 2.13.0, 2025-11-22. The ratio is" in block


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!-- results:fixd -->\n<!-- /results -->\n", "unknown block results:fixd: allowed are fixed, "),
        ("<!-- results:fixed -->\n", "the block results:fixed has no end"),
        (
            "<!-- results:fixed -->\n<!-- results:dynamic -->\n<!-- /results -->\n",
            "the block results:fixed has no end",
        ),
    ],
)
def test_malformed_blocks(tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "README.md"
    file.write_text(text)
    assert main([str(file)]) == 1
    assert words in capsys.readouterr().err
    assert file.read_text() == text


@pytest.mark.parametrize(("name", "content"), [("results/a.jsonl", "{"), ("results/a.jsonl", "[1]")])
def test_damaged_results(tmp_path: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / name).write_text(content)
    (tmp_path / "README.md").write_text(README.format("dynamic"))
    assert main([str(tmp_path / "README.md")]) == 1
    error = capsys.readouterr().err
    assert name in error and error.count("\n") == 1


@pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"results": 3}', '{"results": [{"job": "a"}]}'])
def test_damaged_benchmarks(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "benchmarks" / "results" / "foundation.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    (tmp_path / "README.md").write_text(README.format("benchmarks"))
    assert main([str(tmp_path / "README.md")]) == 1
    error = capsys.readouterr().err
    assert "foundation.json" in error and error.count("\n") == 1


def test_no_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.md")]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_the_project_s_own_readme_is_up_to_date() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    if not readme.exists() or not (readme.parent / "results").exists():
        pytest.skip("there is no README with its results here")
    assert main(["--check", str(readme)]) == 0
