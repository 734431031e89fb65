"""The table that `flowvi sweep` prints at its end. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from flowvi.experiments.sweeps.jobs import Outcome, log_file
from flowvi.reports.tables import number

__all__ = ["sweep_table"]


def sweep_table(outcomes: Sequence[Outcome]) -> str:
    """All jobs of a sweep as plain text: how each ended, its figures (± one standard error, nats), its errors.

    Example:
        >>> from flowvi.experiments.sweeps.grid import plan
        >>> job, = plan("dlgm.nf10.mnist", {})
        >>> print(sweep_table([Outcome(job, "done", result={"nll": 90.5, "nll_se": 0.2})]))
        job              state           F  −ln p(x)    ± s.e.  seconds
        dlgm.nf10.mnist  done            –     90.50      0.20        –
        <BLANKLINE>
        1 job: 1 done
    """
    heads = ["job", "state", "F", "−ln p(x)", "± s.e.", "seconds"]
    rows = [heads, *(_row(outcome) for outcome in outcomes)]
    left = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [
        f"{job:<{left[0]}}  {state:<{left[1]}}" + "".join(f"  {cell:>8}" for cell in cells)
        for job, state, *cells in rows
    ]
    return "\n".join([*lines, *_complaints(outcomes), "", _counts(outcomes)])


def _row(outcome: Outcome) -> list[str]:
    result = outcome.result or {}
    state = f"{outcome.state} before" if outcome.earlier else outcome.state
    figures = [number(result.get(key)) for key in ("free_energy", "nll", "nll_se")]
    return [outcome.job.label, state, *figures, number(result.get("train_seconds"), 0)]


def _complaints(outcomes: Sequence[Outcome]) -> list[str]:
    """Why jobs are not done, with where to read more."""
    lines = []
    for outcome in outcomes:
        if outcome.state == "done":
            continue
        log = log_file(outcome.job.folder)
        more = f" (more in {log})" if outcome.state == "failed" and log.exists() else ""
        lines.append(f"{outcome.state}: {outcome.job.label}: {outcome.message}{more}")
    return ["", *lines] if lines else []


def _counts(outcomes: Sequence[Outcome]) -> str:
    """How many of each, and what to do about those that failed."""
    before = sum(outcome.state == "done" and outcome.earlier for outcome in outcomes)
    now = sum(outcome.state == "done" for outcome in outcomes) - before
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    stopped = sum(outcome.state == "stopped" for outcome in outcomes)
    parts = [(now, "done"), (before, "done before (skipped)"), (len(failed), "failed"), (stopped, "stopped")]
    text = ", ".join(f"{count} {what}" for count, what in parts if count)
    hint = "; the same command with --retry tries those that failed again" if failed else ""
    return f"{len(outcomes)} {'job' if len(outcomes) == 1 else 'jobs'}: {text}{hint}"
