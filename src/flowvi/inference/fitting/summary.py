"""A fit in numbers and sentences: what is written beside its draws, whoever reads it."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from flowvi.inference.evidence import k_hat_limit

if TYPE_CHECKING:
    from flowvi.inference.fitting.result import Fit

__all__ = ["Said", "summary", "verdict_of", "versions"]


class Said(NamedTuple):
    """A verdict as written.

    Example:
        >>> Said("trust", ("k̂ = 0.2 is below its limit, 0.7.",), ()).label
        'trust'
    """

    label: str
    """`trust`, `caution`, `do not trust`, or `none` where there is no verdict."""
    reasons: tuple[str, ...]
    advice: tuple[str, ...]


def verdict_of(fit: Fit) -> Said:
    """The verdict on a fit: the one place where it is read."""
    verdict: Any = getattr(fit, "verdict", None)
    if verdict is None:
        return Said("none", (), ())
    return Said(verdict.label, tuple(verdict.reasons), tuple(verdict.advice))


def versions() -> dict[str, str]:
    """Of flowvi, torch and Python."""
    from flowvi import __version__

    return {"flowvi": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


def summary(fit: Fit) -> dict[str, Any]:
    """A fit as plain values, in nats where it is a log: what `diagnostics.json` and an exported tree hold.

    Numbers may be NaN or infinite.
    """
    said = verdict_of(fit)
    return {
        "verdict": said.label,
        "verdict_reasons": list(said.reasons),
        "verdict_advice": list(said.advice),
        "log_evidence": fit.log_evidence,
        "log_evidence_se": fit.log_evidence_se,
        "elbo": fit.elbo,
        "elbo_se": fit.elbo_se,
        "k_hat": fit.k_hat,
        "k_hat_limit": k_hat_limit(fit.draws),
        "effective_samples": fit.effective_samples,
        "evidence_draws": fit.draws,
        "posterior": fit.winner,
        "converged": fit.converged,
        "interrupted": fit.interrupted,
        "points": fit.counts.points,
        "points_nan": fit.counts.nan,
        "points_minus_inf": fit.counts.minus_inf,
        "points_plus_inf": fit.counts.plus_inf,
    }
