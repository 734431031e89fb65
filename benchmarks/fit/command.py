"""`flowvi.fit` beside pyro's guides and NUTS, at equal time: `python -m benchmarks fit [--targets a,b,c]`.

Each target is fitted by flowvi, verdict and all; the CPU time of the process that it took, in one thread, is what every
setting of every other contender is given on that target. (CPU time, since the machine may be shared.) All fit the same
log density in unconstrained coordinates, in float32. A line is written for each target, seed and contender, with
versions, machine and commit; what is on file is not run again. The targets by default take half an hour of CPU time a
seed. pyro is installed by `benchmarks/requirements.txt`; where it is not, that is said, and flowvi stands alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from benchmarks import peers
from benchmarks.fit.contenders import PACKAGE, Contender, others, ours
from benchmarks.fit.problem import Problem
from benchmarks.fit.score import score
from benchmarks.measure import circumstances
from flowvi.inference.fitting import EFFORTS
from flowvi.inference.proof.records import keep, read
from flowvi.inference.targets import TARGETS
from flowvi.provenance import provenance
from flowvi.reports.peers import OURS, fit_table

RESULTS = Path(__file__).parents[1] / "results" / "fit.jsonl"
MOST = 10
"""Dimensions."""
DEFAULT = [
    "gaussian_2_condition_1e2", "gaussian_10_condition_1e4", "funnel_2", "banana", "student_2",
    "mixture_2_modes_2_far", "mixture_2_modes_4_close", "mixture_2_modes_8_far", "ring",
    "eight_schools_noncentred", "logistic_regression", "dirichlet_5",
]  # fmt: skip
TINY = ["gaussian_2_condition_1e0"]
TINY_BUDGET = 0.3
KEY = "target", "seed", "effort", "contender"
Record = dict[str, Any]


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, print the table; returns the exit status."""
    options = _options(words)
    possible = [name for name, target in TARGETS.items() if target.proper and target.dim <= MOST]
    names = [name for name in possible if any(fnmatch(name, pattern) for pattern in options.targets)]
    if not names:
        wanted, there = ", ".join(options.targets), ", ".join(possible)
        print(f"benchmarks fit: no target is like {wanted}: there are {there}", file=sys.stderr)
        return 1
    if why := peers.missing(PACKAGE):
        print(f"{PACKAGE}: {why}")
    torch.set_num_threads(1)
    if not keep(options.out, () if options.print else _missing(names, options), _line, "benchmarks fit"):
        return 130
    records = [record for record in read(options.out) if record["effort"] == options.effort]
    print(fit_table([record for record in records if record["target"] in names]))
    return 0


def _missing(names: Sequence[str], options: argparse.Namespace) -> Iterator[Record]:
    """The records that the file lacks, each as it is made; flowvi's first, since its time is the others' budget."""
    done = {tuple(record[key] for key in KEY): record for record in read(options.out)}
    made = {**provenance(), "machine": circumstances()}
    contenders = {OURS: partial(ours, options.effort), **others()}
    cold = True
    for seed, name in product(options.seeds, names):
        for contender, run in contenders.items():
            if (key := (name, seed, options.effort, contender)) in done:
                continue
            if cold and not options.tiny:
                _warm_up(contenders)
            cold = False
            budget = done[*key[:3], OURS]["seconds"] if contender != OURS else 0.0
            found = _one(contender, run, Problem.of(name), TINY_BUDGET if options.tiny else budget, seed)
            done[key] = {**dict(zip(KEY, key, strict=True)), **found, **made}
            yield done[key]


def _warm_up(contenders: Mapping[str, Contender]) -> None:
    """Nobody's budget pays for imports and for what is compiled once."""
    for contender, run in contenders.items():
        _one(contender, run, Problem.of(TINY[0]), TINY_BUDGET, 0)


def _one(contender: str, run: Contender, problem: Problem, budget: float, seed: int) -> Record:
    """A contender's answer, or why there is none: a peer that fails on a target stays in the table."""
    try:
        return {"budget": budget, **score(problem, run(problem, budget, seed))}
    except Exception as error:
        if contender == OURS:
            raise
        return {"budget": budget, "seconds": budget, "error": f"{type(error).__name__}: {error}"}


def _line(record: Record) -> str:
    elbo = f"ELBO {record['elbo']:.4f}, " if "elbo" in record else ""
    said = record.get("error") or f"{elbo}marginal {record['marginal_error']:.2f}"
    return f"{record['target']}, seed {record['seed']}, {record['contender']}: {said}, {record['seconds']:.1f} s"


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    summary, _, details = (__doc__ or "").partition("\n\n")
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks fit", None, summary, details, formatter_class=style)
    parser.add_argument("--targets", type=_words, help=f"names or patterns, with commas (default: {','.join(DEFAULT)})")
    parser.add_argument("--seeds", type=lambda text: [int(word) for word in _words(text)], default=[0])
    parser.add_argument("--effort", choices=list(EFFORTS), default="fast", help="of flowvi.fit (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="see that it runs: one Gaussian, a moment for each peer")
    parser.add_argument("--print", action="store_true", help="print the table of what is on file")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/fit.jsonl; with --tiny a temporary file")
    options = parser.parse_args(words)
    options.targets = options.targets or (TINY if options.tiny else DEFAULT)
    options.out = options.out or (Path(mkdtemp(prefix="flowvi-benchmarks-")) / "fit.jsonl" if options.tiny else RESULTS)
    return options


def _words(text: str) -> list[str]:
    return text.split(",")
