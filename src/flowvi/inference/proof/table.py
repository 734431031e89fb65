"""A proof's records as tables: each target; verdicts against the truth; the evidence where a fit is trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any

from flowvi.inference.fitting.verdict import LABELS

__all__ = ["class_of", "confusion", "kept_modes", "proof_table", "verdicts"]

Record = dict[str, Any]

BAD = 5.0
"""A marginal error, in units of that of exact draws, above which a fit is badly wrong."""
GOOD = 2.0
"""Up to which it is good."""
LOST = 0.1
"""The mass of a mode that makes a fit without it badly wrong."""
CLASSES = "good", "between", "badly wrong"


def class_of(record: Record) -> str:
    """`good`, `between` or `badly wrong`. An improper density has no posterior: any fit of it is badly wrong."""
    error = float(record["marginal_error"])
    if math.isnan(error) or error > BAD or record["lost_mode"] >= LOST:
        return CLASSES[2]
    return CLASSES[0] if error <= GOOD else CLASSES[1]


def proof_table(records: Sequence[Record]) -> str:
    """All tables."""
    return "\n".join([*_targets(records), "", verdicts(records)])


def verdicts(records: Sequence[Record]) -> str:
    """Verdicts against the truth, for targets that thresholds were chosen on and for those held out."""
    fitted, lines = [record for record in records if "error" not in record], []
    for held_out, title in ((False, "Targets that thresholds were chosen on"), (True, "Targets held out")):
        part = [record for record in fitted if record["held_out"] == held_out]
        if part:
            effort = ", ".join(dict.fromkeys(record["effort"] for record in part))
            lines += [
                f"{title}: {len(part)} fits, effort {effort}",
                *confusion(part),
                *_denied(part),
                *_evidence(part),
                *kept_modes(part),
                "",
            ]
    return "\n".join(lines).rstrip()


def _targets(records: Sequence[Record]) -> Iterator[str]:
    yield (
        f"{'target':<26}{'fits':>5}{'gap':>8}{'ln Z off, se':>14}{'marginal':>10}{'CPU s':>9}  "
        f"{'trust/caution/not':<18} posterior"
    )
    for name in dict.fromkeys(record["target"] for record in records):
        group = [record for record in records if record["target"] == name]
        fitted = [record for record in group if "error" not in record]
        if not fitted:
            yield f"{name:<26}{0:>5}  refused: {group[0]['error'][:80]}"
            continue
        gap = median(record["log_z"] - float(record["elbo_inside"]) for record in map(_numbers, fitted))
        shown = f"{gap:.3f}" if abs(gap) < 1000 else f"{gap:.0e}"
        off = median(_off(record) for record in map(_numbers, fitted))
        error = median(float(record["marginal_error"]) for record in fitted)
        verdicts = "/".join(str(sum(record["verdict"] == label for record in fitted)) for label in LABELS)
        winners = ", ".join(dict.fromkeys(record["winner"] for record in fitted))
        seconds = median(record["cpu_seconds"] for record in fitted)
        yield (
            f"{name:<26}{len(fitted):>5}{shown:>8}{off:>14.1f}{error:>10.1f}{seconds:>9.0f}  {verdicts:<18} {winners}"
        )


def _numbers(record: Record) -> Record:
    return {key: float(value) if value in ("inf", "-inf", "nan") else value for key, value in record.items()}


def _off(record: Record) -> float:
    """ln Z's error in its standard errors."""
    error = math.hypot(float(record["log_evidence_se"]), record["log_z_se"])
    return (float(record["log_evidence"]) - float(record["log_z"])) / error if error else math.nan


def confusion(records: Iterable[Record]) -> list[str]:
    """How many fits of each class were given each verdict."""
    records = list(records)
    lines = [f"{'':<14}" + "".join(f"{label:>14}" for label in LABELS)]
    for name in CLASSES:
        group = [record for record in records if class_of(record) == name]
        counts = [sum(record["verdict"] == label for record in group) for label in LABELS]
        lines.append(f"{name:<14}" + "".join(f"{count:>14}" for count in counts))
    return lines


def _denied(records: Iterable[Record]) -> Iterator[str]:
    """Which good fits are not trusted."""
    names = [
        record["target"] for record in records if class_of(record) == CLASSES[0] and record["verdict"] != LABELS[0]
    ]
    if names:
        yield f"Good and not trusted: {', '.join(names)}"


def kept_modes(records: Iterable[Record]) -> Iterator[str]:
    """Of the mixtures, how many fits have lost no mode, and how many of the others are not trusted."""
    mixtures = [record for record in records if record["target"].startswith("mixture")]
    if mixtures:
        lost = [record for record in mixtures if record["lost_mode"] > 0]
        told = sum(record["verdict"] != LABELS[0] for record in lost)
        kept = f"{len(mixtures) - len(lost)} of {len(mixtures)}"
        others = f"; of the others not trusted: {told} of {len(lost)}" if lost else ""
        yield f"Mixtures with at least half its mass in each mode: {kept}{others}"


def _evidence(records: Iterable[Record]) -> Iterator[str]:
    offs = [_off(_numbers(record)) for record in records if record["verdict"] == LABELS[0]]
    if offs:
        within = sum(abs(off) <= 2 for off in offs)
        share = f"{within} of {len(offs)} ({100 * within / len(offs):.0f} %)"
        yield f"ln Z of trusted fits within two standard errors: {share}"
