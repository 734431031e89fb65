"""Whether to trust an amortised fit: by rows that were held out, and by fits to some of them alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from flowvi.inference.fitting.amortised.gap import Alone
from flowvi.inference.fitting.amortised.rows import RowEvidence
from flowvi.inference.fitting.verdict import DISTANCE, EFFECTIVE, LABELS, MODES, Verdict, _Finding, _percent

__all__ = ["RowsMeasured", "judge_rows"]

ROWS = 20
"""Held-out rows: of fewer, a share of bad rows would not be seen."""
HEAVY = 0.05, 0.2
"""The share of rows whose k̂ is above its limit: above the first `caution`, above the second `do not trust`."""
BAD = 0.05
"""The share of rows whose posterior may be off by more than `DISTANCE`, or whose draws are hardly effective."""
GAP = 0.05, 0.5
"""Nats that a posterior fitted to a row alone gains, on average over such rows, beyond two standard errors."""


@dataclass(frozen=True, kw_only=True)
class RowsMeasured:
    """All that the verdict on an amortised fit is judged by."""

    rows: RowEvidence
    """Of held-out rows."""
    alone: tuple[Alone, ...]
    """Held-out rows to which a posterior was fitted alone."""
    low: Tensor
    """(C,): the least of each column of context over the training rows."""
    high: Tensor
    """(C,): the greatest."""
    interrupted: bool

    @property
    def gap(self) -> tuple[float, float]:
        """The mean gain of the posteriors fitted to a row alone, and its standard error by draws, in nats."""
        n = len(self.alone)
        if not n:
            return math.nan, math.nan
        return sum(each.gain for each in self.alone) / n, math.hypot(*(each.se for each in self.alone)) / n


_MORE = "Try effort='thorough', more rows of context, or features that say more of the data."
_RICHER = "Try another flow, fit(…, flow='realnvp'), or effort='thorough'; or fit such data sets alone."
_HELD_OUT = "Give more rows of context: 200, of which 20 are held out, or more."


def judge_rows(measured: RowsMeasured) -> Verdict:
    """The verdict: `trust` needs that nothing speaks against it. It holds within the range of the training rows."""
    found = [*_weights(measured.rows), *_alone(measured), *_search(measured)]
    if not found:
        return Verdict("trust", list(_assurance(measured)), [])
    found.sort(key=lambda finding: -finding.severity)
    advice = list(dict.fromkeys(finding.advice for finding in found))
    return Verdict(LABELS[found[0].severity], [finding.reason for finding in found], advice)


def _assurance(measured: RowsMeasured) -> Iterator[str]:
    rows, (gain, error) = measured.rows, measured.gap
    yield (
        f"On 95 % of {len(rows.k_hat)} held-out rows no probability is off by more than "
        f"{max(rows.distance.quantile(0.95).item(), 0.001):.1g}, as far as {rows.draws:,} weighted draws each can tell."
    )
    yield (
        f"Posteriors fitted to {len(measured.alone)} of them alone gain {gain:.3f} ± {error:.3f} nats, and found no "
        "modes that are missed."
    )


def _weights(rows: RowEvidence) -> Iterator[_Finding]:
    undefined = rows.log_evidence.isnan().double().mean().item()
    if undefined:
        reason = f"The log density is NaN or +inf at draws of {_percent(undefined)} of the held-out rows."
        yield _Finding(1, reason, "Return -inf where the parameters are not allowed, and a number elsewhere.")
    heavy = rows.heavy.double().mean().item()
    if heavy > HEAVY[0]:
        reason = f"k̂ is above its limit on {_percent(heavy)} of the held-out rows: their posteriors miss mass."
        yield _Finding(2 if heavy > HEAVY[1] else 1, reason, _MORE)
    for severity, limit in ((2, DISTANCE[1]), (1, DISTANCE[0])):
        far = (rows.distance > limit).double().mean().item()
        if far > BAD:
            reason = f"On {_percent(far)} of the held-out rows probabilities may be off by more than {limit}"
            yield _Finding(severity, f"{reason} (total variation, by the weights).", _MORE)
            break
    poor = (rows.effective < EFFECTIVE).double().mean().item()
    if poor > BAD:
        reason = (
            f"On {_percent(poor)} of the held-out rows fewer than {_percent(EFFECTIVE)} of the draws are effective."
        )
        yield _Finding(1, reason, _RICHER)


def _alone(measured: RowsMeasured) -> Iterator[_Finding]:
    (gain, error), n = measured.gap, len(measured.alone)
    if gain > max(GAP[0], 2 * error):
        reason = f"Posteriors fitted to {n} held-out rows alone are better by {gain:.3f} ± {error:.3f} nats on average."
        yield _Finding(2 if gain > GAP[1] else 1, reason, _RICHER)
    missed = [each for each in measured.alone if each.missed > MODES]
    if missed:
        most = max(each.missed / (1 + each.missed) for each in missed)
        count = f"{len(missed)} of {n} held-out rows that were fitted alone"
        yield _Finding(2, f"The posterior misses modes of {count}, with up to {_percent(most)} of the mass.", _RICHER)


def _search(measured: RowsMeasured) -> Iterator[_Finding]:
    n = len(measured.rows.k_hat)
    if n < ROWS:
        yield _Finding(1, f"Only {n} rows were held out: too few to tell how many data sets it fails on.", _HELD_OUT)
    if measured.interrupted:
        yield _Finding(1, "The search was interrupted before its end.", "Run it again to its end.")
    elif not measured.alone:
        yield _Finding(1, "No posterior could be fitted to a held-out row alone, to compare with.", _RICHER)
