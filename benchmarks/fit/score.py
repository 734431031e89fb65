"""How good an answer is: its ELBO, and the error of its worst marginal."""

from __future__ import annotations

from typing import Any

from benchmarks.fit.problem import Outcome, Problem
from flowvi.inference.fitting.elbo import elbo_of_weights
from flowvi.inference.proof.truth import marginal_error

DRAWS = 20_000


def score(problem: Problem, outcome: Outcome) -> dict[str, Any]:
    """What a record says of an answer.

    The ELBO is by 20,000 fresh draws, of q within where the density is finite, as the proof has it. The marginal error
    is the proof's: 1-Wasserstein of the probability integral transform by up to 1,000 draws, in units of what 1,000
    exact draws give.
    """
    found: dict[str, Any] = {"seconds": outcome.seconds, "points": outcome.points, **outcome.more}
    if outcome.log_weights is not None:
        elbo = elbo_of_weights(outcome.log_weights(DRAWS))
        found |= {"elbo": elbo.inside, "elbo_se": elbo.se, "elbo_share": elbo.share}
    return {**found, "log_z": problem.target.log_z, "marginal_error": marginal_error(problem.target, outcome)}
