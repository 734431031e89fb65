"""Ctrl-C and SIGTERM as a request to stop at the next update; the second one stops at once."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

__all__ = ["stop_requests", "stops_passed_on"]


@contextmanager
def stop_requests(then: Callable[[], None] | None = None) -> Iterator[threading.Event]:
    """An event that a first SIGINT or SIGTERM sets, and calls `then`. Outside the main thread nothing is caught."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])
        if then is not None:
            then()

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stops_passed_on() -> AbstractContextManager[threading.Event]:
    """`stop_requests` of a process that only waits for those it started: they are asked in turn."""

    def pass_on() -> None:
        for child in multiprocessing.active_children():
            child.terminate()  # SIGTERM, which they take as a request too

    return stop_requests(pass_on)
