"""The records of a proof: one for each target and seed, as JSON lines."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from flowvi.errors import FlowviError
from flowvi.inference.fitting import Fit, fit
from flowvi.inference.proof.truth import lost_mode, marginal_error
from flowvi.inference.targets import TARGETS, Target

__all__ = ["add", "keep", "prove", "read"]

Record = dict[str, Any]


def prove(name: str, seed: int, effort: str) -> Record:
    """Fit a target, and set what the fit says beside what is known.

    Seconds are of the wall and of CPU; a log density that `fit` refuses is a record with its `error`.
    """
    target, started, used = TARGETS[name], time.perf_counter(), time.process_time()
    record: Record = {"target": name, "seed": seed, "effort": effort, "held_out": target.held_out}
    try:
        found = fit(target.log_density, target.supports or target.dim, seed=seed, effort=effort)
    except FlowviError as error:
        return {**record, "seconds": time.perf_counter() - started, "error": str(error)}
    if found.interrupted:  # Ctrl-C, after which fit gives what it has: not a fit to judge it by
        raise KeyboardInterrupt
    record["seconds"] = time.perf_counter() - started
    record["cpu_seconds"] = time.process_time() - used
    torch.manual_seed(seed)
    return {**record, **_said(found), **_known(target, found)}


def _said(found: Fit) -> Record:
    """What the fit says of itself."""
    measured = found.measured
    return {
        "verdict": found.verdict.label,
        "reasons": found.verdict.reasons,
        "winner": found.winner,
        "elbo": found.elbo,
        "elbo_inside": found.stage.found.inside,
        "elbo_se": found.elbo_se,
        "stages": {stage.name: [stage.found.inside, stage.seconds] for stage in found.stages},
        "log_evidence": found.log_evidence,
        "log_evidence_se": found.log_evidence_se,
        "k_hat": found.k_hat,
        "k_hat_own": measured.weighed.k_hat_own,
        "effective_share": measured.weighed.effective,
        "distance": measured.weighed.distance,
        "lacking": measured.weighed.lacking,
        "missed": sum(each.share for each in measured.missed),
        "modes": len(measured.missed),
        "left": measured.chains.distance,
        "left_chance": measured.chains.chance,
        "gained": measured.chains.gained,
        "annealed": measured.annealed,
        "annealed_se": measured.annealed_se,
        "far": measured.far,
        "apart": measured.apart,
    }


def _known(target: Target, found: Fit) -> Record:
    """What is known of the target."""
    return {
        "log_z": target.log_z,
        "log_z_se": target.log_z_se,
        "marginal_error": marginal_error(target, found),
        "lost_mode": lost_mode(target, found),
    }


def keep(path: Path, made: Iterable[Record], line: Callable[[Record], str], command: str) -> bool:
    """Put records on file, each as it is made, with a line on the screen; False where Ctrl-C ended it."""
    try:
        for record in made:
            add(path, record)
            print(line(record), flush=True)
    except KeyboardInterrupt:
        print(f"{command}: interrupted; the same command goes on", file=sys.stderr)
        return False
    return True


def read(path: Path) -> list[Record]:
    """The records of a file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def add(path: Path, record: Record) -> None:
    """Append a record. Numbers that are not finite become text, as JSON has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_plain(record), ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value
