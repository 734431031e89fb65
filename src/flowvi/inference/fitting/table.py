"""A fit as text."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from flowvi.inference.fitting.result import QUANTILES, Fit, Stage, marginals

__all__ = ["table"]

_ROWS = 30  # more entries than this are not printed


def table(fit: Fit) -> str:
    """Parameters, stages, evidence, and what there is to say about them: what `print(fit)` shows."""
    lines = [*_parameters(fit), "", *_stages(fit), "", *_evidence(fit), *_remarks(fit), "", f"VERDICT: {fit.verdict}"]
    return "\n".join(lines)


def _parameters(fit: Fit) -> Iterator[str]:
    with torch.random.fork_rng([]):  # printing must not change what comes after it
        torch.manual_seed(0)
        quantiles = marginals(fit.posterior, 4000)[2]
    rows = []
    for name, value in quantiles.items():
        shape = value.shape[1:]
        for i, column in enumerate(value.reshape(len(QUANTILES), -1).mT.tolist()):
            place = ", ".join(map(str, _unravel(i, tuple(shape))))
            rows.append((f"{name}[{place}]" if shape else name, column))
    width = max(9, *(len(name) for name, _ in rows))
    yield f"{'parameter':<{width}}" + "".join(f"{f'{100 * level:g} %':>10}" for level in QUANTILES)
    for name, column in rows[:_ROWS]:
        yield f"{name:<{width}}" + "".join(f"{number:>10.4g}" for number in column)
    if len(rows) > _ROWS:
        yield f"… and {len(rows) - _ROWS} more"


def _unravel(i: int, shape: tuple[int, ...]) -> list[int]:
    place = []
    for size in reversed(shape):
        i, at = divmod(i, size)
        place.append(at)
    return place[::-1]


def _stages(fit: Fit) -> Iterator[str]:
    width = max(9, *(len(stage.name) for stage in fit.stages))
    yield f"{'posterior':<{width}}{'ELBO':>12}{'se':>10}{'steps':>8}"
    for stage in fit.stages:
        won = "  <- this one" if stage.name == fit.winner else ""
        yield f"{stage.name:<{width}}{stage.elbo:>12.4f}{stage.elbo_se:>10.4f}{stage.trace.steps:>8}{won}"


def _evidence(fit: Fit) -> Iterator[str]:
    weighed = fit.measured.weighed
    yield (
        f"ln Z {fit.log_evidence:.4f} ± {fit.log_evidence_se:.4f}   k̂ {fit.k_hat:.2f}   "
        f"{100 * weighed.effective:.0f} % of {fit.measured.draws:,} weighted draws effective"
    )
    low, high = fit.measured.region
    yield f"Searched for modes from {fit.measured.starts} starts between {low:.3g} and {high:.3g} (unconstrained)."


def _remarks(fit: Fit) -> Iterator[str]:
    yield from fit.notes
    by_name = {stage.name: stage for stage in fit.stages}
    if fit.winner not in ("mean-field", "full-rank"):
        yield f"The {fit.winner} buys {_gain(fit.stage, by_name['full-rank'])} nats over full-rank."
    if "flow" in by_name and fit.winner != "flow":
        yield _flow_lost(by_name["flow"], fit.stage)
    for stage in fit.stages:
        if not stage.converged and not stage.trace.interrupted:
            yield f"{stage.name}: not converged after {stage.trace.steps} steps; try a higher effort."
    if fit.counts.not_finite:
        yield (
            f"Of {fit.counts.points} points met, {fit.counts.nan} had a log density of NaN, {fit.counts.minus_inf} of "
            f"-inf, {fit.counts.plus_inf} of +inf."
        )
    if fit.stage.found.share < 1:
        yield (
            f"{100 * (1 - fit.stage.found.share):.3g} % of the posterior's own draws are such points: its ELBO is "
            f"{fit.elbo}, and {fit.stage.found.inside:.4f} if it is cut off there."
        )
    if fit.interrupted:
        ended = "the search had" if fit.measured.interrupted else "the checks of the posterior had"
        yield f"Interrupted: {ended} not ended."


def _flow_lost(flow: Stage, kept: Stage) -> str:
    if flow.found.inside - kept.found.inside > 2 * math.hypot(flow.elbo_se, kept.elbo_se):
        return f"The flow buys {_gain(flow, kept, 4)} nats over {kept.name}: too little for a richer posterior."
    return f"The flow buys nothing: {kept.name} has an ELBO as high, within its error."


def _gain(flow: Stage, before: Stage, digits: int = 3) -> str:
    gain = flow.found.inside - before.found.inside
    return f"{gain:.{digits}f} ± {math.hypot(flow.elbo_se, before.elbo_se):.{digits}f}"
