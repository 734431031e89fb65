"""A fit in numbers and sentences: what is written beside its draws, whoever reads it."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import torch

from flowvi.inference.evidence import k_hat_limit

if TYPE_CHECKING:
    from flowvi.inference.fitting.result import Fit

__all__ = ["summary", "versions"]


def versions() -> dict[str, str]:
    """Of flowvi, torch and Python."""
    from flowvi import __version__

    return {"flowvi": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


def summary(fit: Fit) -> dict[str, Any]:
    """A fit as plain values, in nats where it is a log: what `diagnostics.json` and an exported tree hold.

    Numbers may be NaN or infinite.
    """
    measured = fit.measured
    return {
        "verdict": fit.verdict.label,
        "verdict_reasons": list(fit.verdict.reasons),
        "verdict_advice": list(fit.verdict.advice),
        "log_evidence": fit.log_evidence,
        "log_evidence_se": fit.log_evidence_se,
        "elbo": fit.elbo,
        "elbo_se": fit.elbo_se,
        "k_hat": fit.k_hat,
        "k_hat_limit": k_hat_limit(measured.draws),
        "k_hat_own": measured.weighed.k_hat_own,
        "evidence_draws": measured.draws,
        "effective_share": fit.effective_share,
        "total_variation": measured.weighed.distance,
        "mass_lacking": measured.weighed.lacking,
        "mass_missed": sum(each.share for each in measured.missed),
        "log_evidence_annealed": measured.annealed,
        "log_evidence_annealed_se": measured.annealed_se,
        "chains_distance": measured.chains.distance,
        "chains_chance": measured.chains.chance,
        "posterior": fit.winner,
        "converged": fit.converged,
        "interrupted": fit.interrupted,
        "points": fit.counts.points,
        "points_nan": fit.counts.nan,
        "points_minus_inf": fit.counts.minus_inf,
        "points_plus_inf": fit.counts.plus_inf,
    }
