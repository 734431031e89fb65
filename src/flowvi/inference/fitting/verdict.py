"""Whether to trust a fit: thresholds on what was measured, each with its reason in plain words and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from flowvi.inference.evidence import k_hat_limit
from flowvi.inference.fitting.probes import Measured

__all__ = ["LABELS", "Verdict", "judge"]

LABELS = "trust", "caution", "do not trust"

# Chosen on the targets that are not held out (`flowvi.targets`), so that no fit that is badly wrong there is trusted.
DISTANCE = 0.1, 0.3
"""Total variation between posterior and density: above the first `caution`, above the second `do not trust`."""
LACKING = 0.03, 0.1
"""Mass where the posterior has less than a tenth of the density."""
MODES = 0.01
"""Mass around an optimum that the posterior misses: more, and it is not to be trusted."""
SHIFT = 1e-3, 0.15
"""The chance, below which chains that start at draws have left them; and how far is too far."""
APART = 3.0, 0.05
"""ln Z by two estimates: apart by so many standard errors and so many nats."""
FAR = -3.0
"""Nats: mass far out beside the mass near; above it the integral may not be finite."""
TAIL = 0.005
"""Lacking mass up to which a k̂ above its limit is about a tail too thin to matter for the draws.

The weights say so themselves; chains and annealing, which do not rest on them, have to agree.
"""
K_HAT_HOPELESS = 1.0
"""Weights of so heavy a tail have no mean."""
EFFECTIVE = 0.02
"""The share of effective draws."""
AGREEMENT = 0.5
"""Standard deviations between the medians of two fits that have about the same ELBO."""


@dataclass(frozen=True)
class Verdict:
    """Whether to trust a fit, and why.

    Example:
        >>> print(Verdict("trust", ["No sign of missing mass."], []))
        trust
          - No sign of missing mass.
    """

    label: str
    """`trust`, `caution` or `do not trust`."""
    reasons: list[str]
    """Sentences: what speaks against it; where nothing does, what was looked at."""
    advice: list[str]
    """What to do next."""

    def __str__(self) -> str:
        reasons, advice = (f"  - {each}" for each in self.reasons), (f"  > {each}" for each in self.advice)
        return "\n".join([self.label, *reasons, *advice])


@dataclass(frozen=True)
class _Finding:
    severity: int
    """Of `LABELS`."""
    reason: str
    advice: str


_HEAVIER = "Try effort='thorough', or a heavier base: fit(…, tails=3)."
_RICHER = "Try effort='thorough', or another flow: fit(…, flow='realnvp'); or reparameterise the model."
_SAMPLE = "Compare with a long run of Markov chain Monte Carlo before you use it."
_AGAIN = "Run it again to its end."
_PROPER = "Check that the density has a finite integral: a flat prior on an unbounded parameter has none."


def judge(measured: Measured) -> Verdict:
    """The verdict on what was measured.

    `trust` needs that nothing speaks against it: neither the weights of draws, nor what chains, annealing, optima and
    rays found beyond them. It holds for the region that was searched: nothing can see farther.
    """
    found = [*([] if "weights" in measured.skipped else _weights(measured)), *_search(measured)]
    if math.isfinite(measured.weighed.log_evidence):
        found += _beyond(measured)
    if not found:
        return Verdict("trust", _assurance(measured), [])
    found.sort(key=lambda finding: -finding.severity)
    advice = list(dict.fromkeys(finding.advice for finding in found))
    return Verdict(LABELS[found[0].severity], [finding.reason for finding in found], advice)


def _assurance(measured: Measured) -> list[str]:
    weighed = measured.weighed
    reasons = [
        f"No probability is off by more than {max(weighed.distance, 0.001):.1g} as far as {measured.draws:,} weighted "
        f"draws can tell; chains, annealing and {measured.starts} optimisations found no mass beyond them."
    ]
    if not weighed.k_hat <= k_hat_limit(measured.draws):
        reasons.append(
            f"A tail with about {_percent(weighed.lacking)} of the mass is too thin (k̂ {weighed.k_hat:.2f}): the error "
            "of ln Z is widened by it."
        )
    return reasons


def _weights(measured: Measured) -> Iterator[_Finding]:
    weighed, limit = measured.weighed, k_hat_limit(measured.draws)
    k_hat = weighed.k_hat
    if not math.isfinite(weighed.log_evidence):
        yield _Finding(2, f"ln Z is {weighed.log_evidence}: the density is nowhere finite among the draws.", _PROPER)
        return
    if weighed.undefined:
        share = _percent(weighed.undefined)
        reason = f"The log density is NaN or +inf at {share} of the draws, and was taken for -inf: ln Z is unknown."
        yield _Finding(1, reason, "Return -inf where the parameters are not allowed, and a number elsewhere.")
    thin = weighed.lacking <= TAIL and weighed.distance <= DISTANCE[0]
    if not k_hat <= limit and not thin:
        severity = 2 if not k_hat < K_HAT_HOPELESS else 1
        reason = f"The importance weights have too heavy a tail (k̂ {k_hat:.2f}, at most {limit:.2f} wanted): "
        yield _Finding(severity, reason + "the posterior misses mass, and ln Z is not to be relied on.", _HEAVIER)
    if weighed.effective < EFFECTIVE:
        share = _percent(weighed.effective)
        yield _Finding(1, f"Only {share} of the weighted draws are effective.", _RICHER)
    if weighed.distance > DISTANCE[0]:
        severity = 2 if weighed.distance > DISTANCE[1] else 1
        yield _Finding(
            severity, f"Probabilities may be off by {weighed.distance:.2f} (total variation, by the weights).", _RICHER
        )
    if weighed.lacking > LACKING[0]:
        severity = 2 if weighed.lacking > LACKING[1] else 1
        share = _percent(weighed.lacking)
        yield _Finding(severity, f"{share} of the mass lies where the posterior has less than a tenth of it.", _HEAVIER)


def _beyond(measured: Measured) -> Iterator[_Finding]:
    weighed, chains = measured.weighed, measured.chains
    missed = [each for each in measured.missed if each.share > MODES]
    if missed:
        mass = sum(each.share for each in missed)
        mass = 1 - 1 / (1 + mass)  # of what was found and what was missed; all, where it is infinite
        count = "a mode" if len(missed) == 1 else f"{len(missed)} modes"
        yield _Finding(2, f"The posterior misses {count} with about {_percent(mass)} of the mass.", _RICHER)
    if chains.chance < SHIFT[0]:
        severity = 2 if chains.distance > SHIFT[1] else 1
        reason = f"Markov chains that start at its draws leave them (Kolmogorov–Smirnov distance {chains.distance:.2f}"
        yield _Finding(severity, f"{reason}, chance {chains.chance:.0e}).", _SAMPLE)
    if chains.gained > LACKING[0] + weighed.lacking:
        share = _percent(chains.gained)
        yield _Finding(
            1, f"{share} of these chains end where the posterior has less than a tenth of the mass.", _SAMPLE
        )
    apart = abs(weighed.log_evidence - measured.annealed)
    error = math.hypot(weighed.log_evidence_se, measured.annealed_se)
    if "annealing" not in measured.skipped and not apart <= max(APART[0] * error, APART[1]):
        both = f"{weighed.log_evidence:.3f} by the weights, {measured.annealed:.3f} by annealing"
        yield _Finding(1, f"Two estimates of ln Z disagree: {both}.", _SAMPLE)
    if measured.far > FAR:
        reason = f"Far out along a ray, or where numbers end, lies e^{measured.far:.1f} of the mass near by: "
        yield _Finding(2, reason + "the integral of the density may be infinite.", _PROPER)


def _search(measured: Measured) -> Iterator[_Finding]:
    if measured.interrupted:
        yield _Finding(1, "The search was interrupted before its end.", _AGAIN)
    if measured.skipped:
        # without weights nothing is known of the fit
        severity = 2 if "weights" in measured.skipped else 1
        yield _Finding(severity, f"Interrupted, so these checks were not made: {', '.join(measured.skipped)}.", _AGAIN)
    if measured.apart > AGREEMENT:
        reason = f"Two fits from different starts disagree by {measured.apart:.1f} standard deviations of a parameter"
        yield _Finding(1, f"{reason}, with as high an ELBO.", _SAMPLE)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1g} %"
