"""What a person sees of a sweep: a live table of all jobs on a terminal, elsewhere a line for each change."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from flowvi.experiments.sweeps.grid import Job
from flowvi.experiments.sweeps.jobs import Outcome, last_metrics, log_file

__all__ = ["Board"]

# what to look at first where the table is longer than the terminal
_ORDER = "testing", "training", "failed", "stopped", "waiting", "done"
_STYLES = {"testing": "cyan", "training": "cyan", "failed": "red", "stopped": "yellow", "waiting": "dim", "done": ""}
_AROUND = 6  # lines of the terminal that are no rows


class Board:
    """All jobs of a sweep, on standard error.

    Example:
        >>> with Board([]) as board:
        ...     board.refresh()
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = {job.label: job for job in jobs}
        self._states = dict.fromkeys(self._jobs, "waiting")
        self._logs: dict[str, int] = {}  # their sizes, of the jobs that may begin
        self._outcomes: dict[str, Outcome] = {}
        self._live: Any = None

    def __enter__(self) -> Board:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def handed_over(self, job: Job) -> None:
        """The engine has a job, which begins as soon as its log grows: a cluster may let it wait."""
        self._logs[job.label] = _size(job)

    def ended(self, outcome: Outcome) -> None:
        """A job has ended, or had before."""
        self._outcomes[outcome.job.label] = outcome
        self._change(outcome.job.label, outcome.state, "" if outcome.earlier else _said(outcome), outcome.earlier)

    def refresh(self) -> None:
        """Show what the run folders say now."""
        for label, state in list(self._states.items()):
            job = self._jobs[label]
            if state == "waiting" and label in self._logs and _size(job) > self._logs[label]:
                self._change(label, "testing" if job.run.finished else "training")
            elif state == "training" and job.run.finished:
                self._change(label, "testing")
        if self._live is not None:
            self._live.update(self._table(), refresh=True)

    def _change(self, label: str, state: str, more: str = "", quiet: bool = False) -> None:
        self._states[label] = state
        if self._live is None and not quiet:
            print(f"{state:<8}  {label}{more}", file=sys.stderr, flush=True)

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        rows = sorted(self._states, key=lambda label: _ORDER.index(self._states[label]))
        room = max(1, self._live.console.height - _AROUND)
        hidden = Counter(self._states[label] for label in rows[room:])
        counts = Counter(self._states.values())
        table = Table(
            title=_counted(counts), caption=f"… and {_counted(hidden)}" if hidden else None, title_justify="left",
            caption_justify="left", box=None, pad_edge=False, title_style="bold",
        )  # fmt: skip
        for name in ("job", "state", "update", "seconds", "F", "−ln p"):
            table.add_column(name, justify="left" if name in ("job", "state") else "right", no_wrap=name != "job")
        for label in [label for label in self._states if label in set(rows[:room])]:
            style = _STYLES[self._states[label]]
            table.add_row(*(Text(cell, style=style) for cell in [label, self._states[label], *self._figures(label)]))
        return table

    def _figures(self, label: str) -> list[str]:
        job, outcome = self._jobs[label], self._outcomes.get(label)
        updates = job.run.config.training.updates
        if outcome is not None and outcome.result is not None:
            result = outcome.result
            cells = _number(result, "train_seconds", 0), _number(result, "free_energy"), _number(result, "nll")
            return [f"{updates:,}", *cells]
        if outcome is not None and outcome.earlier:
            return ["", "", "", ""]
        metrics = last_metrics(job.run)
        reached = f"{metrics.get('update', 0):,}/{updates:,}"
        return [reached, _number(metrics, "seconds", 0), _number(metrics, "free_energy"), ""]


def _size(job: Job) -> int:
    log = log_file(job.folder)
    return log.stat().st_size if log.exists() else 0


def _said(outcome: Outcome) -> str:
    result = outcome.result
    if result is None:
        return f": {outcome.message}" if outcome.message else ""
    figures = f"F {_number(result, 'free_energy')}, −ln p {_number(result, 'nll')}"
    return f": {figures}, {_number(result, 'train_seconds', 0)} s of training"


def _number(record: Any, key: str, digits: int = 2) -> str:
    value = record.get(key)
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else ""


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in reversed(_ORDER) if counts[state])
