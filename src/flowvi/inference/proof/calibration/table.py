"""A calibration's records as tables: the ranks of each quantity, and means, ln Z and verdicts of each model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from flowvi.inference.fitting.verdict import LABELS
from flowvi.inference.proof.calibration.ranks import chi_square, deviation

__all__ = ["calibration_table"]

Record = dict[str, Any]


def calibration_table(records: Sequence[Record]) -> str:
    """All tables."""
    lines = []
    for name in dict.fromkeys(record["model"] for record in records):
        group = [record for record in records if record["model"] == name]
        fitted = [record for record in group if "error" not in record]
        lines.append(f"{name}: {len(group)} data sets, {len(group) - len(fitted)} refused")
        if fitted:
            lines += [*_ranks(fitted), *_beside(fitted)]
        lines.append("")
    return "\n".join(lines).rstrip()


def _ranks(records: Sequence[Record]) -> Iterator[str]:
    yield f"  {'ranks of':<16}{'chi-square p':>14}{'deviation, se':>16}{'its p':>10}"
    for quantity in records[0]["ranks"]:
        found = [record["ranks"][quantity] for record in records]
        largest, p = deviation(found)
        yield f"  {quantity:<16}{chi_square(found):>14.3f}{largest:>16.2f}{p:>10.4f}"


def _beside(records: Sequence[Record]) -> Iterator[str]:
    yield _errors("means of 4,000 draws", [off for record in records for off in record["mean_off"]])
    yield _errors("ln Z", [_off(record) for record in records])
    counts = ", ".join(f"{sum(record['verdict'] == label for record in records)} {label}" for label in LABELS)
    seconds = sum(record["seconds"] for record in records) / len(records)
    yield f"  verdicts: {counts}; {seconds:.1f} s of CPU a fit"


def _off(record: Record) -> float:
    off: float = float(record["log_evidence"]) - record["log_z"]
    return off / float(record["log_evidence_se"])


def _errors(what: str, offs: Sequence[float]) -> str:
    """Errors in standard errors: where all is right, 0 on average, of size 1, and 95 % within two."""
    n = len(offs)
    mean, size = sum(offs) / n, math.sqrt(sum(off**2 for off in offs) / n)
    within = sum(abs(off) <= 2 for off in offs)
    return f"  {what}: off by {mean:+.2f} se on average, root mean square {size:.2f}, {within} of {n} within two"
