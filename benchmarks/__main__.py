"""Measure flowvi beside others: `python -m benchmarks [PART …] [key=value …]`.

The parts, each of which can be named alone; without a name, the first six run, in about a quarter of an hour on two
cores, and want the machine for themselves (the load average before and after is kept):

- chain: the planar chain alone, forward and backward, beside its own reference, torch.compile, pyro, normflows, flowjax
- others: radial, Householder and RealNVP beside those of pyro, normflows, nflows and zuko
- step: the training step beside the earlier program, pyro's flow in the same model, and the floor
- likelihood: −ln p(x) beside the same, and the decoder's matrix products
- growth: time and peak memory against K, D, batch and S
- startup: imports and the first step
- flows: flowvi's families beside one another (ten minutes; `python -m benchmarks.flows --help`)
- fit: flowvi.fit beside pyro's guides and NUTS, at equal time (alone, with options of its own: `fit --help`)
- report: measures nothing; the targets' table and the figure from the files

In each part all contenders take turns in one run (`benchmarks/measure.py`); the table gives medians, with quartiles in
brackets. Others are installed by `benchmarks/requirements.txt`; one that is not is reported and left out.

torch.compile needs minutes for its sizes, once: `--prepare` runs everything a few times and writes nothing, so that the
run after it spends no time on compilers. flowvi's settings are those of the preset; overrides such as
`training.protocol=paper` change them, and the results then go to a folder of that name.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks import flows, targets
from benchmarks.fit import command as fit
from benchmarks.foundation import foundation
from benchmarks.measure import usable_cores
from benchmarks.settings import Settings
from flowvi.errors import FlowviError
from flowvi.experiments.config import parse_overrides, resolve

RESULTS = Path(__file__).parent / "results"
PARTS = "chain", "others", "step", "likelihood", "growth", "startup"
FIGURE = "benchmarks"


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, write the files; returns the exit status."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["fit"]:
        return fit.main(words[1:])
    options = _parser().parse_args(words)
    names = [word for word in options.words if "=" not in word]
    if unknown := sorted({*names} - {*PARTS, "flows", "report"}):
        there = f"{', '.join(PARTS)}, flows, report, and by itself fit"
        print(f"benchmarks: no part {unknown[0]!r}: there are {there}", file=sys.stderr)
        return 1
    try:
        overrides = parse_overrides([word for word in options.words if "=" in word])
        resolve("dlgm.nf80.mnist", overrides)
        out = options.out or _folder(options, overrides)
        torch.set_num_threads(options.threads)
        settings = Settings(options.tiny, options.prepare, options.threads, overrides)
        return _run(names or list(PARTS), settings, out)
    except FlowviError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1


def _run(names: Sequence[str], settings: Settings, out: Path) -> int:
    for name in names:
        if name == "flows":
            flows.main([f"--threads={settings.threads}", f"--out={out / 'flows.json'}"])
        elif name != "report":
            measure: Callable[[Settings], dict[str, Any]] = import_module(f"benchmarks.{name}").measure
            record = measure(settings)
            if not settings.prepare:
                _write(out / f"{name}.json", record)
    if not settings.prepare:
        _report(out)
    return 0


def _report(out: Path) -> None:
    """Everything that follows from the parts' files."""
    records = read(out)
    step, likelihood = records.get("step"), records.get("likelihood")
    if step and likelihood and step["overrides"] == likelihood["overrides"]:
        _write(out / "foundation.json", foundation(step, likelihood))
    _write(out / "targets.json", {"targets": targets.to_dicts(records)})
    print(f"\n{targets.table(records)}\n")
    for record in records.values():
        print(_circumstances(record))
    if records:
        figure = import_module("benchmarks.figure").draw(records)
        for ending in ("svg", "png"):
            figure.savefig(out / f"{FIGURE}.{ending}")
    print(f"written to {out}")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The parts' records that a folder holds."""
    files = {name: folder / f"{name}.json" for name in PARTS}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}


def _write(file: Path, record: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _folder(options: argparse.Namespace, overrides: Mapping[str, Any]) -> Path:
    """Where results go: never in the place of others that mean more."""
    if options.tiny:
        return Path(tempfile.mkdtemp(prefix="flowvi-benchmarks-"))
    return RESULTS / ",".join(f"{key}={value}" for key, value in sorted(overrides.items()))


def _circumstances(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    found = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{record['part']}: {machine['processor']}, {machine['usable_cores']} cores, {machine['threads']} threads, "
        f"Python {machine['python']}, {found}; "
        f"load average {machine['load_average']} before, {machine['load_average_after']} after"
    )


def _parser() -> argparse.ArgumentParser:
    summary, _, details = (__doc__ or "").partition("\n\n")
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks", None, summary, details, formatter_class=style)
    parser.add_argument("words", nargs="*", metavar="PART|key=value", help="parts, and keys of flowvi's config")
    parser.add_argument("--tiny", action="store_true", help="see that it runs; files in a temporary folder")
    parser.add_argument("--prepare", action="store_true", help="fill the compilers' caches; write nothing")
    parser.add_argument("--out", type=Path, help="folder of the files (default: benchmarks/results)")
    parser.add_argument("--threads", type=int, default=min(2, usable_cores()), help="default: %(default)s")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
