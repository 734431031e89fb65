"""An amortised fit as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flowvi.inference.evidence import k_hat_limit

if TYPE_CHECKING:
    from flowvi.inference.fitting.amortised.result import AmortisedFit

__all__ = ["table"]

_COLUMNS = 10  # of context, whose range is printed


def table(fit: AmortisedFit) -> str:
    """Stages, what held-out rows say, the range, and the verdict: what `print(fit)` shows."""
    lines = [
        *_stages(fit),
        "",
        *_rows(fit),
        *_alone(fit),
        *_range(fit),
        *_remarks(fit),
        "",
        f"VERDICT: {fit.verdict}",
    ]
    return "\n".join(lines)


def _stages(fit: AmortisedFit) -> Iterator[str]:
    contexts = fit.contexts
    names = ", ".join(fit.joint.supports) if not fit.joint.plain else f"{fit.joint.size} reals"
    yield (
        f"Posterior of {names} given {contexts.training.shape[1]} numbers a data set: {len(contexts.training):,} "
        f"rows trained on, {len(contexts.held_out):,} held out"
    )
    yield f"{'posterior':<12}{'ELBO, training':>16}{'se':>8}{'held out':>12}{'se':>8}{'steps':>8}"
    for stage in fit.stages:
        won = "  <- this one" if stage.name == fit.winner else ""
        both = f"{stage.training.mean:>16.4f}{stage.training.se:>8.4f}{stage.held_out.mean:>12.4f}"
        yield f"{stage.name:<12}{both}{stage.held_out.se:>8.4f}{stage.trace.steps:>8}{won}"


def _rows(fit: AmortisedFit) -> Iterator[str]:
    rows = fit.measured.rows
    heavy = 100 * rows.heavy.double().mean().item()
    yield (
        f"{len(rows.k_hat)} held-out rows, {rows.draws:,} weighted draws each: k̂ above {k_hat_limit(rows.draws):.2f} "
        f"on {heavy:.0f} % of them"
    )
    low, middle, high = (100 * rows.effective.quantile(level).item() for level in (0.25, 0.5, 0.75))
    yield f"effective draws, quartiles over rows: {low:.0f} %, {middle:.0f} %, {high:.0f} %"


def _alone(fit: AmortisedFit) -> Iterator[str]:
    if fit.measured.alone:
        gain, error = fit.measured.gap
        yield f"{len(fit.measured.alone)} of them fitted alone: ELBO higher by {gain:.4f} ± {error:.4f} on average"


def _range(fit: AmortisedFit) -> Iterator[str]:
    low, high = fit.measured.low.tolist(), fit.measured.high.tolist()
    columns = [f"[{a:.4g}, {b:.4g}]" for a, b in zip(low, high, strict=True)]
    more = f", … and {len(columns) - _COLUMNS} more" if len(columns) > _COLUMNS else ""
    yield f"Range of the training rows: {', '.join(columns[:_COLUMNS])}{more}. Beyond it nothing is known."


def _remarks(fit: AmortisedFit) -> Iterator[str]:
    constant = (fit.measured.low == fit.measured.high).nonzero().flatten().tolist()
    if constant:
        yield f"Constant in training, and not used: column {', '.join(map(str, constant))}."
    for stage in fit.stages:
        if not stage.trace.converged and not stage.trace.interrupted:
            yield f"{stage.name}: not converged after {stage.trace.steps} steps; try a higher effort."
    counts = fit.counts
    if counts.not_finite:
        yield (
            f"Of {counts.points} points met, {counts.nan} had a log density of NaN, {counts.minus_inf} of -inf, "
            f"{counts.plus_inf} of +inf."
        )
    if fit.interrupted:
        yield "Interrupted: the search had not ended."
