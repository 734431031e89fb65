"""The report: all that result files say, as one page of HTML, as Markdown, and as pictures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from flowvi.errors import RunError
from flowvi.experiments.lines import read_lines
from flowvi.reports import protocol
from flowvi.reports.columns import Chapter, Section, Table, write_page
from flowvi.reports.comparison import duration, results_parts
from flowvi.reports.estimates import estimate_parts
from flowvi.reports.page import write_html
from flowvi.reports.reproductions import REPRODUCTIONS, load
from flowvi.reports.tables import ABSENT, Record, finite, number, of_importance, posterior

__all__ = ["chapters", "report"]

_NO_RESULTS = "there are no results in {}: name a folder that `flowvi reproduce … --out` or `flowvi collect` wrote to"


def report(results: Path, out: Path) -> list[Path]:
    """Write what the files in `results` say to `out`: `report.html`, `report.md`, and each picture as SVG and PNG.

    The page needs nothing but itself: pictures are inline, and there is no script, font or style from elsewhere.

    Returns:
        The files, the page first.

    Raises:
        RunError: there are no results, or a file cannot be read or written.
    """
    made = chapters(results)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {out}: {error.strerror}; choose another by --out") from error
    files = write_page([section for chapter in made for section in chapter.sections], out / "report", (".md",))
    page = write_html(made, out / "report.html", pictures=out)
    return [page, *files]


def chapters(results: Path) -> list[Chapter]:
    """What the files in a folder say: findings, protocol, each reproduction, all else that was trained, every run."""
    found = [
        Chapter(load(entry.sections)(results), _command(name, read_lines(results / f"{name}.jsonl")))
        for name, entry in REPRODUCTIONS.items()
        if entry.of is None and read_lines(results / f"{name}.jsonl")
    ]
    more = _others(results)
    others = [record for record in more if "nll" in record and of_importance(record)]
    estimates = estimate_parts(more)
    if not found and not others and not estimates:
        raise RunError(_NO_RESULTS.format(results))
    if others:
        found.append(Chapter([Section("Other models", results_parts(others))]))
    if estimates:
        found.append(Chapter([Section("Other estimates of −ln p(x)", estimates)]))
    runs = [*_runs(results), *others]
    findings = tuple(line for chapter in found for section in chapter.sections for line in section.findings)
    return [
        *([Chapter([Section("Findings", [findings])])] if findings else []),
        Chapter([protocol.section()]),
        *found,
        *([Chapter([_every_run(runs)])] if runs else []),
    ]


def _command(name: str, records: Sequence[Record]) -> str | None:
    """What makes a reproduction's results again."""
    if not records:
        return None
    overrides = records[0].get("overrides") or {}
    words = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in overrides.items()]
    words = [word.replace("=null", "=none").replace(", ", ",") for word in words]
    seeds = sorted({int(record["seed"]) for record in records if "overrides" in record and "seed" in record})
    words += [f"seed={','.join(map(str, seeds))}"] if seeds else []
    return shlex.join(["flowvi", "reproduce", name, *words, "--budget", str(records[0].get("budget"))])


def _others(results: Path) -> list[dict[str, Any]]:
    """The records of files that belong to no reproduction."""
    files = (file for file in sorted(results.glob("*.jsonl")) if file.stem not in REPRODUCTIONS)
    found = {json.dumps(record, sort_keys=True): record for file in files for record in read_lines(file)}
    return list(found.values())  # a result that two files hold is one


def _runs(results: Path) -> list[dict[str, Any]]:
    """The tested models of all reproductions."""
    return [
        record
        for name in REPRODUCTIONS
        for record in read_lines(results / f"{name}.jsonl")
        if "nll" in record and of_importance(record)
    ]


def _every_run(records: Iterable[Record]) -> Section:
    """A row for each run, with the words that repeat it; then what they ran on."""
    records = list(records)
    rows = [
        (
            f"`flowvi train {record['command']}`" if record.get("command") else f"{record.get('config')} ({ABSENT})",
            posterior(record),
            number(record.get("seed"), 0),
            f"{number(record.get('nll'))} ± {number(record.get('nll_se'))}",
            number(record.get("images"), 0),
            duration(record["train_seconds"]) if finite(record.get("train_seconds")) else ABSENT,
            str(record.get("commit") or ABSENT)[:7],
        )
        for record in records
    ]
    seconds = [float(record["train_seconds"]) for record in records if finite(record.get("train_seconds"))]
    machines = dict.fromkeys(
        f"{record.get('versions') or ABSENT}; {record.get('machine') or ABSENT}" for record in records
    )
    total = f"{len(rows)} runs, {duration(sum(seconds))} of training in all, {duration(fmean(seconds))} each. "
    note = (
        f"{total if seconds else ''}−ln p(x) in nats ± standard error over the test images; training is wall time, "
        "whatever else ran beside it. `flowvi test` with the same words tests a run. On the same machine and versions "
        "a run on a CPU repeats to the bit."
    )
    head = "train it again", "posterior", "seed", "−ln p(x)", "images", "training", "commit"
    return Section("Every run", [note, tuple(machines), Table(head, rows, left=2)])
