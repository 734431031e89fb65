"""Write the README's figures from the results: `python -m flowvi.reports.readme [--check] README.md`.

A block stands between `<!-- results:NAME -->` and `<!-- /results -->`, NAME being one of `BLOCKS`; what is
between is replaced. Results are read from `results/*.jsonl` and `benchmarks/results/*.json`, in the
README's folder.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flowvi.errors import DataError, FlowviError, RunError
from flowvi.experiments.arms.store import Store
from flowvi.experiments.estimators.registry import IDENTITY
from flowvi.experiments.run import atomic_write
from flowvi.flows.registry import FAMILIES
from flowvi.reports import stability, table2
from flowvi.reports.columns import markdown_line
from flowvi.reports.comparison import families_markdown, results_markdown
from flowvi.reports.reproductions import REPRODUCTIONS
from flowvi.reports.tables import ABSENT, number, of_importance, result_table

__all__ = ["BLOCKS", "main", "rewrite"]

_BEGIN = re.compile(r"<!--\s*results:(\S+?)\s*-->")
_END = "<!-- /results -->"
_FAMILIES_FILE = "flows.jsonl"  # the families side by side: a table of its own
_OWN_TABLES = _FAMILIES_FILE, *(f"{name}.jsonl" for name in REPRODUCTIONS)
_IDENTITY = *IDENTITY, "data", "binarisation"
_JOBS = {"training_step": "training step, batch {batch}", "evidence": "−ln p(x) of an image, S = {samples}"}


def rewrite(text: str, root: Path) -> tuple[str, list[str]]:
    """A README's text with its blocks made anew, and the names of those that were stale.

    Args:
        text: the README.
        root: the folder that holds `results` and `benchmarks`.

    Raises:
        DataError: a block of an unknown name or without an end, or results that cannot be read.
    """
    done, stale, position = [], [], 0
    while begin := _BEGIN.search(text, position):
        name, end = begin[1], text.find(_END, begin.end())
        following = _BEGIN.search(text, begin.end())
        if end < 0 or (following and following.start() < end):
            raise DataError(f"the block results:{name} has no end: put {_END} on a line below it")
        if name not in BLOCKS:
            raise DataError(f"unknown block results:{name}: allowed are {', '.join(BLOCKS)}")
        new = f"\n\n{BLOCKS[name](root)}\n\n"
        if text[begin.end() : end] != new:
            stale.append(name)
        done += [text[position : begin.end()], new, _END]
        position = end + len(_END)
    return "".join([*done, text[position:]]), stale


def _comparison(binarisation: str, root: Path) -> str:
    found = [record for record in _records(root) if record.get("data") == "mnist"]
    return results_markdown(record for record in found if record.get("binarisation") == binarisation)


def _transcript(root: Path) -> str:
    """What `flowvi test` printed for the last run of the quick protocol."""
    quick = [record for record in _records(root) if record.get("protocol") == "quick"]
    return _as_printed(result_table(record) for record in quick[-1:])


def _fit(root: Path) -> str:
    """What `examples/eight_schools.py` printed."""
    file = root / "results" / "fit" / "eight-schools.txt"
    return _as_printed([file.read_text(encoding="utf-8").strip()] if file.exists() else ())


def _verdicts(root: Path) -> str:
    """Verdicts of `fit` against what is known, from `python -m flowvi.inference.proof`."""
    from flowvi.inference.proof.records import read
    from flowvi.inference.proof.table import kept_modes, verdicts

    folder = root / "results" / "fit"
    found = [verdicts(read(folder / name)) for name in ("proof.jsonl", "proof-default.jsonl")]
    seeds = read(folder / "modes.jsonl")
    found += [f"2, 4 and 8 modes, {len(seeds)} fits more\n{line}" for line in kept_modes(seeds)]
    return _as_printed(found)


def _calibration(root: Path) -> str:
    """Ranks under data sets drawn from the model, from `python -m flowvi.inference.proof.calibration`."""
    from flowvi.inference.proof.calibration.table import calibration_table
    from flowvi.inference.proof.records import read

    found = read(root / "results" / "fit" / "calibration.jsonl")
    return _as_printed([calibration_table(found)] if found else ())


def _peers(root: Path) -> str:
    """`flowvi.fit` beside other packages, from `python -m benchmarks fit`."""
    from flowvi.inference.proof.records import read
    from flowvi.reports.peers import peers_markdown

    found = [record for record in read(root / "benchmarks" / "results" / "fit.jsonl") if record["effort"] == "fast"]
    return peers_markdown(found) if found else "*No results yet.*"


def _benchmarks(root: Path) -> str:
    """Times of flowvi and of the earlier reproduction's program, as `python -m benchmarks` measured them."""
    file = root / "benchmarks" / "results" / "foundation.json"
    if not file.exists():
        return "*No results yet.*"
    record = _json(file, file.read_text(encoding="utf-8"))
    try:
        return _benchmark_table(record)
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not what `python -m benchmarks` writes ({error!r}): run that again") from error


def _benchmark_table(record: Mapping[str, Any]) -> str:
    lines = [
        markdown_line(("milliseconds for each", "K", "earlier program", "flowvi", "ratio")),
        markdown_line(("---", "---:", "---:", "---:", "---:")),
    ]
    for row in record["results"]:
        job = _JOBS[row["job"]].format(batch=record["batch"], samples=record["effort"]["samples"])
        ratio = f"**{_spread(row['ratio'], ' ×')}**"
        lines.append(markdown_line((job, str(row["length"]), _spread(row["earlier"]), _spread(row["flowvi"]), ratio)))
    note = f"The ratio is that of turns taken side by side. Baseline: {record['baseline']}."
    return "\n".join([*lines, "", f"{_conditions(record['machine'])} {note}"])


def _targets(root: Path) -> str:
    """Ratios of times beside what they were to reach, met or not."""
    file = root / "benchmarks" / "results" / "targets.json"
    if not file.exists():
        return "*No results yet.*"
    lines = [markdown_line(("ratio of medians", "target", "measured")), markdown_line(("---", "---:", "---:"))]
    for each in _json(file, file.read_text(encoding="utf-8"))["targets"]:
        figure = "not measured" if each["measured"] is None else f"{each['measured']:.3g}"
        if each["lower"] is not None:
            figure += f" [{each['lower']:.3g}, {each['upper']:.3g}]"
        figure = f"**{figure}**" if each["met"] else figure
        lines.append(markdown_line((each["text"], f"{each['sign']} {each['wanted']:g}", figure)))
    return "\n".join([*lines, "", "Bold: reached."])


def _conditions(machine: Mapping[str, Any]) -> str:
    told = {**dict.fromkeys(("processor", "threads", "python", "torch", "time"), ABSENT), **machine}
    return (
        f"Times are medians, with quartiles in brackets: {told['processor']}, {told['threads']} threads, "
        f"Python {told['python']}, torch {told['torch']}, {str(told['time'])[:10]}."
    )


def _spread(spread: Mapping[str, float], unit: str = "") -> str:
    digits = 2 if unit or spread["median"] < 10 else 1
    median, lower, upper = (number(spread[key], digits) for key in ("median", "lower", "upper"))
    return f"{median}{unit} [{lower}, {upper}]"


def _families(root: Path) -> str:
    """The families that the registry lists, each with its file."""
    header = "family", "`flow.kind`", "reference", "multiplications a layer", "inverse", "amortised", "file"
    lines = [markdown_line(header), markdown_line(["---"] * len(header))]
    for kind, entry in FAMILIES.items():
        file = f"src/{entry.target.partition(':')[0].replace('.', '/')}.py"
        amortised = "layers and base" if "parameters" in entry.options else "base"
        link = f"[{file.rpartition('/')[2]}]({file})"
        cells = entry.title, f"`{kind}`", entry.reference, entry.cost, entry.inverse, amortised, link
        lines.append(markdown_line(cells))
    return "\n".join(lines)


def _flows(root: Path) -> str:
    """The families beside one another, trained alike."""
    file = root / "results" / _FAMILIES_FILE
    if not file.exists():
        return "*No results yet.*"
    timed = root / "benchmarks" / "results" / "flows.json"
    record = _json(timed, timed.read_text(encoding="utf-8")) if timed.exists() else {}
    jobs = [record.get(job, {}) for job in ("step", "evidence")]
    times = {name: [_spread(job[name]["time"]) for job in jobs] for name in jobs[0]}
    table = families_markdown(filter(of_importance, _lines(file)), times)
    return f"{table}\n\n{_conditions(record['machine'])}" if times else table


def _table2(root: Path) -> str:
    """Figure 4's runs, beside the paper's figures and the earlier reproduction's."""
    store = Store(root / "results", "figure4")
    if not store.records:
        return "*No results yet.*"
    return f"{table2.figures(store).markdown()}\n\nIn nats: {table2.settings(store.records)}. {table2.SEEDS_NOTE}"


def _claims(root: Path) -> str:
    """The paper's claims, and what Figure 4's runs say to them."""
    store = Store(root / "results", "figure4")
    return _bullets(table2.findings(table2.judged_claims(store)) if store.records else ())


def _estimates(root: Path) -> str:
    """What `flowvi test` printed for estimators of ln p(x) other than importance sampling."""
    return _as_printed(result_table(record) for record in _every(root) if not of_importance(record))


def _figure3(root: Path) -> str:
    """The divergences of Figure 3, a line for each flow."""
    from flowvi.experiments.figure3.store import Store as Restarts
    from flowvi.reports.figure3 import findings

    return _bullets(findings(Restarts(root / "results").records))


def _answers(root: Path) -> str:
    """The ablations' questions with their answers."""
    from flowvi.reports.ablations import findings

    return _bullets(findings(Store(root / "results", "ablations")))


def _as_printed(texts: Iterable[str]) -> str:
    shown = "\n\n".join(filter(None, texts))
    return f"```text\n{shown}\n```" if shown else "*No results yet.*"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or "*No results yet.*"


def _stability(root: Path) -> str:
    """How often training blew up."""
    store = Store(root / "results", "stability")
    return stability.counts(store).markdown() if store.records else "*No results yet.*"


def _records(root: Path) -> list[dict[str, Any]]:
    """The results by importance sampling, whose numbers are not to be compared with those of other estimators."""
    return [record for record in _every(root) if of_importance(record)]


def _every(root: Path) -> list[dict[str, Any]]:
    """Every result in `results/*.jsonl` that has no table of its own, files in order of their names; each once."""
    records: dict[tuple[Any, ...], dict[str, Any]] = {}
    for file in sorted((root / "results").glob("*.jsonl")):
        if file.name not in _OWN_TABLES:
            for number, record in enumerate(_lines(file)):
                own = tuple(record.get(key) for key in _IDENTITY) if "config_hash" in record else (file.name, number)
                records[own] = record
    return list(records.values())


def _lines(file: Path) -> list[dict[str, Any]]:
    return [_json(file, line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _json(file: Path, text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise DataError(f"{file} does not hold JSON ({error})") from error
    if not isinstance(record, dict):
        raise DataError(f"{file} holds {text[:40]!r}: expected a JSON object")
    return record


BLOCKS: Mapping[str, Callable[[Path], str]] = {
    "fixed": partial(_comparison, "fixed"),
    "dynamic": partial(_comparison, "dynamic"),
    "threshold": partial(_comparison, "threshold"),
    "transcript": _transcript,
    "benchmarks": _benchmarks,
    "targets": _targets,
    "fit": _fit,
    "verdicts": _verdicts,
    "calibration": _calibration,
    "peers": _peers,
    "families": _families,
    "flows": _flows,
    "table2": _table2,
    "claims": _claims,
    "estimates": _estimates,
    "figure3": _figure3,
    "answers": _answers,
    "stability": _stability,
}


def main(words: Sequence[str] | None = None) -> int:
    """Rewrite the README, or with `--check` say which blocks are stale; returns the exit status."""
    parser = argparse.ArgumentParser("python -m flowvi.reports.readme", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where a block is stale")
    parser.add_argument("readme", type=Path, metavar="README.md")
    options = parser.parse_args(words)
    try:
        stale = _update(options.readme, options.check)
    except FlowviError as error:
        print(f"flowvi.reports.readme: {error}", file=sys.stderr)
        return 1
    for name in stale:
        print(f"{options.readme}: results:{name} {'is stale' if options.check else 'written anew'}")
    return 1 if stale and options.check else 0


def _update(readme: Path, check: bool) -> list[str]:
    try:
        text = readme.read_text(encoding="utf-8")
        new, stale = rewrite(text, readme.resolve().parent)
        if stale and not check:
            with atomic_write(readme) as out:
                out.write(new.encode())
    except OSError as error:
        raise RunError(f"cannot read {error.filename or readme}: {error.strerror or error}") from error
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
