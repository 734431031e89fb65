"""What a person sees of training: one live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["Progress", "Silent", "counting"]

PLAIN_SECONDS = 10.0  # between two plain lines


class Silent:
    """Shows nothing: for every process but the first."""

    def show(self, update: int, means: Mapping[str, float], beta: float, speed: float) -> None:
        """Nothing."""

    def validated(self, free_energy: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Progress(Silent):
    """Smoothed free energy and its parts in nats, β, updates a second and the time left; on standard error.

    Args:
        update: the update that training starts from.
        updates: the last one.
    """

    def __init__(self, update: int, updates: int) -> None:
        self._updates = updates
        self._speed: float | None = None
        self._validation = ""
        self._shown = 0.0
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar, self._task = _live_bar(update, updates, "starting")

    def show(self, update: int, means: Mapping[str, float], beta: float, speed: float) -> None:
        """Show the means since the last call."""
        self._speed = speed if self._speed is None else 0.8 * self._speed + 0.2 * speed
        left = _clock((self._updates - update) / self._speed)
        line = (
            f"F {means['free_energy']:.2f} = reconstruction {means['reconstruction']:.2f} + KL {means['kl']:.2f}"
            f"   β {beta:.2f}{self._validation}   {self._speed:.0f} updates/s   {left} left"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=update, line=line)
        elif update == self._updates or time.monotonic() - self._shown > PLAIN_SECONDS:
            self._shown = time.monotonic()
            print(f"update {update:,}/{self._updates:,}   {line}", file=sys.stderr, flush=True)

    def validated(self, free_energy: float) -> None:
        """Remember the last validation."""
        self._validation = f"   validation F {free_energy:.2f}"

    def close(self) -> None:
        """Leave the last line standing."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def counting(total: int, line: str) -> Iterator[Callable[[int], None]]:
    """A live bar, on a terminal, for work of `total` pieces; gives the function that counts so many as done."""
    if not sys.stderr.isatty():
        yield lambda pieces: None
        return
    bar, task = _live_bar(0, total, line)
    try:
        yield lambda pieces: bar.advance(task, pieces)
    finally:
        bar.stop()


def _live_bar(done: int, total: int, line: str) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.fields[line]}"), console=Console(stderr=True)
    )
    task = bar.add_task("", total=total, completed=done, line=line)
    bar.start()
    return bar, task


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
