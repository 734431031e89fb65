"""The step and the likelihood beside the earlier program alone: `foundation.json`, which the README's table reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.targets import cell

BASELINE = "drawcodeboy/Normalizing-Flow v1.0.0, re-implemented in benchmarks/earlier.py"
SAMPLES = 200


def foundation(step: Mapping[str, Any], likelihood: Mapping[str, Any]) -> dict[str, Any]:
    """The record, of two parts' records that were measured with the same settings."""
    lengths = {part["part"]: [each["sizes"]["K"] for each in part["cells"]] for part in (step, likelihood)}
    rows = [_row("training_step", k, cell(step, {"K": k})) for k in lengths["step"]]
    evidence = {k: cell(likelihood, {"K": k, "S": SAMPLES}) for k in dict.fromkeys(lengths["likelihood"])}
    rows += [_row("evidence", k, found) for k, found in evidence.items()]
    return {
        "unit": "ms",
        "baseline": BASELINE,
        "batch": step["batch"],
        "effort": {"samples": SAMPLES},
        "overrides": step["overrides"],
        "machine": step["machine"],
        "results": [row for row in rows if row],
        "configs": step["configs"],
    }


def _row(job: str, length: int, found: Mapping[str, Any] | None) -> dict[str, Any]:
    if not found:
        return {}
    times = {name: found["times"][name] for name in ("earlier", "flowvi")}
    return {"job": job, "length": length, **times, "ratio": found["ratios"]["flowvi"]["earlier"]}
