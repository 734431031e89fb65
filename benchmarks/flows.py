"""Time the families beside one another: `python -m benchmarks.flows`.

For each preset of another flow: one training step on a batch of 100 images of MNIST, as `flowvi train` runs it, and
−ln p(x) of a test image at S = 200, as `flowvi test` runs it, on the CPU. The presets take turns, round after round, so
that what disturbs one disturbs all; the table gives medians over the rounds, and the median of the ratio to the planar
flow within each round. It takes about ten minutes and wants the machine for itself.

Written to `benchmarks/results/flows.json`, from which the README's table takes its times.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Contest, Job, Spread, circumstances, load, take_turns
from flowvi.experiments.assembly import load_data
from flowvi.experiments.config import resolve
from flowvi.experiments.engine import Engine, make_fabric
from flowvi.experiments.estimators.importance import evidence_of_images

RESULTS = Path(__file__).parent / "results" / "flows.json"
PLANAR = "dlgm.nf10.mnist"
PRESETS = [PLANAR, *(f"dlgm.{name}.mnist" for name in (
    "radial10", "householder10", "sylvester10", "nice10", "realnvp10", "iaf4", "nsf4",
))]  # fmt: skip
SAMPLES = 200
STEPS_BEFORE = 20


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the file; returns the exit status."""
    options = _parser().parse_args(words)
    torch.set_num_threads(options.threads)
    machine = circumstances()
    engines = {name: _engine(name) for name in options.presets}
    steps = {name: Job(engine.step) for name, engine in engines.items()}
    images = {name: _evidence(engine, options.images) for name, engine in engines.items()}
    record = {
        "unit": "ms",
        "samples": SAMPLES,
        "step": rounds(steps, options.rounds, options.steps),
        "evidence": rounds(images, max(options.rounds // 4, 2), 1),
        "machine": {**machine, "load_average_after": load()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in options.presets:
        step, image = (record[job][name]["time"]["median"] for job in ("step", "evidence"))
        print(f"{name:<24}{step:8.1f} ms a step{image:10.2f} ms an image")
    print(f"written to {options.out}")
    return 0


def rounds(jobs: dict[str, Job], count: int, calls: int) -> dict[str, Any]:
    """Times of each job over `count` rounds of all, in an order that turns, and its ratio to the first's."""
    times = take_turns(jobs, count, dict.fromkeys(jobs, calls))
    contest = Contest(times, dict.fromkeys(jobs, calls))
    first = next(iter(jobs))
    return {
        name: {"time": asdict(Spread.of(times[name])), "ratio": asdict(contest.ratio(name, first))} for name in jobs
    }


def _engine(preset: str) -> Engine:
    config = resolve(preset, {"device": "cpu"})
    engine = Engine(make_fabric(config), config, load_data(config, torch.device("cpu")))
    engine.model.train()
    for _ in range(STEPS_BEFORE):  # nobody is timed on the special numbers of a fresh start
        engine.step()
    return engine


def _evidence(engine: Engine, images: int) -> Job:
    rows = torch.arange(images)

    def run() -> None:
        with redirect_stderr(StringIO()):  # not a terminal: no live bar for each pass
            evidence_of_images(engine.model.eval(), engine.dataset.test, rows, SAMPLES, seed=0)

    return Job(run, images)


def _parser() -> argparse.ArgumentParser:
    summary, _, details = (__doc__ or "").partition("\n\n")
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.flows", None, summary, details, formatter_class=style)
    parser.add_argument("presets", nargs="*", default=PRESETS, help="the first is what ratios are to")
    parser.add_argument("--out", type=Path, default=RESULTS, help="record (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of training steps (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="steps in a block (default: %(default)s)")
    parser.add_argument("--images", type=int, default=50, help="test images in a pass (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
