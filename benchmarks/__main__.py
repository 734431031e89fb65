"""Time flowvi beside the earlier reproduction's program: `python -m benchmarks [key=value …]`.

What is measured, on the CPU, in one process:

- **training step**: one update on a batch of 100 images of MNIST, K = 0, 10, 40, 80.  For flowvi it is the
  whole step that `flowvi train` runs: taking the batch out of the data set, free energy, gradient, guard
  against numbers that are not finite, clipping, optimiser.  For the earlier program it is forward, backward
  and optimiser on a batch that lies ready as floats: its way of reading images, which is slow, is left out.
- **−ln p(x)**: time for each test image at S = 200 importance samples, K = 0 and 80.  For flowvi it is the
  evaluation that `flowvi test` runs (which gives the free energy and the effective sample size as well); for
  the earlier program its estimate of −ln p(x) alone, one image at a time, as it does it.

The earlier program is drawcodeboy/Normalizing-Flow v1.0.0, re-implemented plainly in `benchmarks/earlier.py`.
It and flowvi take turns, block by block (`benchmarks/measure.py`).  The table gives medians, with quartiles
in brackets; the ratio is earlier / flowvi, the median over the pairs of blocks.  It takes a few minutes on
two cores and wants the machine for itself: the load average before and after is kept with the result.

flowvi's settings are those of the preset; overrides such as `training.protocol=paper` change them.  All of
it, with the machine, the versions and the configs, is written to `benchmarks/results/foundation.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.foundation import BATCH, Contest, Effort
from benchmarks.measure import Duel, Spread, circumstances, load
from flowvi.errors import FlowviError
from flowvi.experiments.config import parse_overrides

RESULTS = Path(__file__).parent / "results" / "foundation.json"
BRIEF = Effort(pairs=4, steps=3, test_pairs=2, images=20)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the file; returns the exit status."""
    options = _parser().parse_args(words)
    torch.set_num_threads(options.threads)
    effort = BRIEF if options.brief else Effort()
    try:
        record = measure(options.overrides, effort, options.train, options.test)
    except FlowviError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(_footer(record["machine"], options.out))
    return 0


def measure(overrides: Sequence[str], effort: Effort, train: Sequence[int], test: Sequence[int]) -> dict[str, Any]:
    """Run the contests, printing a line as each ends, and return the record that is written."""
    settings = parse_overrides(overrides)
    machine = circumstances()
    rows: list[dict[str, Any]] = []
    configs: dict[str, Any] = {}
    print(f"{'ms, median [quartiles]':<42}{'earlier':>24}{'flowvi':>24}{'ratio':>24}", flush=True)
    for job, title, each in (
        ("training_step", f"training step, batch {BATCH}", train),
        ("evidence", f"−ln p(x) of an image, S = {effort.samples}", test),
    ):
        for length in each:
            contest = Contest(length, settings, effort)
            result: Duel = getattr(contest, job)()
            configs[str(length)] = contest.config.to_dict()
            rows.append({"job": job, "length": length, **result.to_dict()})
            print(_line(f"{title}, K = {length}", result), flush=True)
    machine["load_average_after"] = load()
    return {
        "unit": "ms",
        "baseline": "drawcodeboy/Normalizing-Flow v1.0.0, re-implemented in benchmarks/earlier.py",
        "batch": BATCH,
        "effort": asdict(effort),
        "overrides": settings,
        "machine": machine,
        "results": rows,
        "configs": configs,
    }


def _parser() -> argparse.ArgumentParser:
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys of flowvi's config")
    parser.add_argument("--out", type=Path, default=RESULTS, help="record (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default: %(default)s)")
    parser.add_argument("--train", type=_lengths, default="0,10,40,80", metavar="K,…", help="lengths K to train")
    parser.add_argument("--test", type=_lengths, default="0,80", metavar="K,…", help="lengths K to test")
    parser.add_argument("--brief", action="store_true", help="few repeats, to see that it works")
    return parser


def _lengths(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def _line(title: str, result: Duel) -> str:
    cells = (_text(result.earlier), _text(result.flowvi), _text(result.ratio, " ×", 2))
    return f"{title:<42}" + "".join(f"{cell:>24}" for cell in cells)


def _text(spread: Spread, unit: str = "", digits: int = 1) -> str:
    median, lower, upper = (f"{value:.{digits}f}" for value in (spread.median, spread.lower, spread.upper))
    return f"{median}{unit} [{lower}, {upper}]"


def _footer(machine: dict[str, Any], out: Path) -> str:
    return (
        f"{machine['processor']}, {machine['usable_cores']} cores, {machine['threads']} threads, "
        f"Python {machine['python']}, torch {machine['torch']}\n"
        f"load average {machine['load_average']} before, {machine['load_average_after']} after\n"
        f"written to {out}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
