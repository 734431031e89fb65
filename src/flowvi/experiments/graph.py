"""Updates as one launch each: the work of an update is captured as a CUDA graph once, and from then on replayed.

A graph repeats kernels on the addresses that they had. So whatever changes from one update to the next has to be in a
tensor that stays where it is: the batch, β, the step size, the number of the update, and the optimiser's whole state.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch
from torch import Tensor

from flowvi.errors import ConfigError

__all__ = ["CUDARecorder", "Recorder", "Replayed", "graphs_wanted", "make_capturable", "portable_state", "set_rate"]

WARM_UPS = 3  # batches before the capture, as torch has it: they make the optimiser's state and compile kernels
SYNCHRONISED = "synchronizing CUDA operation"  # in torch's warning

_abandoned: list[torch.cuda.CUDAGraph] = []  # captures without an end: torch still has pointers to them


class Recorder(Protocol):
    """What a device does for `Replayed`."""

    def aside(self, work: Callable[[], None]) -> str:
        """Do the work, away from the current stream; gives the reason if it cannot be captured as it was done."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work without doing it; gives what does it.

        If that fails, whatever it raises, nothing has changed.
        """
        ...


class Replayed:
    """The same work on batch after batch: done as it is a few times, then captured, and from then on replayed.

    A smaller batch, such as an epoch's last, has the work done as it is. If a capture is not possible, one line in the
    log says why, and all further work is done as it is.

    Args:
        x: as large as a full batch; batches are copied into it.
        recorder: the device's.

    Example:
        >>> class Tape:
        ...     def aside(self, work):
        ...         work()
        ...         return ""
        ...
        ...     def capture(self, work):
        ...         return work
        >>> replayed, total = Replayed(torch.zeros(2), Tape()), torch.zeros(2)
        >>> for _ in range(6):
        ...     replayed(lambda x: total.add_(x), torch.ones(2))
        >>> total
        tensor([6., 6.])
    """

    def __init__(self, x: Tensor, recorder: Recorder) -> None:
        self._x, self._recorder = x, recorder
        self._replay: Callable[[], None] | None = None
        self._warm_ups, self._gave_up = WARM_UPS, False

    def __call__(self, work: Callable[[Tensor], None], x: Tensor) -> None:
        """Do `work`, the same at every call, on the batch `x`."""
        if self._gave_up:
            work(x)
        elif x.shape != self._x.shape:
            self._recorder.aside(lambda: work(x))
        else:
            self._x.copy_(x)
            self._full(lambda: work(self._x))

    def forget(self) -> None:
        """Begin anew: tensors that the work is on have been replaced."""
        self._replay, self._warm_ups = None, WARM_UPS

    def _full(self, work: Callable[[], None]) -> None:
        if self._warm_ups:
            self._warm_ups -= 1
            reason = self._recorder.aside(work)
            if reason and not self._warm_ups:  # before the last one, kernels may still be compiling
                self._give_up(reason)
            return
        if self._replay is None:
            try:
                self._replay = self._recorder.capture(work)
            except Exception as error:  # a network may be somebody's own: anything may go wrong in it
                self._give_up(_first_line(error.__context__ or error))  # the end of a failed capture fails as well
                work()
                return
        self._replay()

    def _give_up(self, reason: str) -> None:
        self._gave_up = True
        logging.getLogger("flowvi").warning("updates run without a CUDA graph, and slower: %s", reason)


class CUDARecorder:
    """Captures on a CUDA device, in a memory pool of the graph's own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # two, so that what libraries keep for a stream is made inside the capture, and belongs to the graph's pool
        self._side, self._capturing = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def aside(self, work: Callable[[], None]) -> str:
        """See `Recorder`. On a side stream: what autograd keeps of the default stream would break a capture."""
        current = torch.cuda.current_stream(self._device)
        self._side.wait_stream(current)
        with _synchronisations() as found, torch.cuda.stream(self._side):
            work()
        current.wait_stream(self._side)
        return found[0] if found else ""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `Recorder`."""
        current = torch.cuda.current_stream(self._device)
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        # a cast that an outer autocast has cached would be frozen as it is now
        uncached = torch.autocast("cuda", enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False)
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self._capturing), uncached:
                work()
        except BaseException:
            torch.cuda.set_stream(current)  # torch stays on its own where the end of the capture fails
            self._recover(graph, pool)
            raise
        replay: Callable[[], None] = graph.replay
        return replay

    def _recover(self, graph: torch.cuda.CUDAGraph, pool: Any) -> None:
        """Put right what torch leaves where the end of a capture fails too: its allocator and its generator."""
        index = self._capturing.device_index
        with suppress(RuntimeError, AttributeError):  # where the capture did end, and where torch has no such function
            torch._C._cuda_endAllocateToPool(index, pool)
            _abandoned.append(graph)
        state = torch.cuda.get_rng_state(index)
        try:
            torch.rand(1, device=self._device)
        except RuntimeError:  # it believes that it is being captured; its clone does not
            generator = torch.cuda.default_generators[index]
            generator.graphsafe_set_state(generator.clone_state())
        torch.cuda.set_rng_state(state, index)


def graphs_wanted(device: torch.device, processes: int) -> bool:
    """Whether updates are to be captured: on CUDA, in one process, unless FLOWVI_GRAPH=off.

    Raises:
        ConfigError: FLOWVI_GRAPH is another word.
    """
    asked = os.environ.get("FLOWVI_GRAPH", "")
    if asked not in ("", "off"):
        raise ConfigError(f"FLOWVI_GRAPH={asked}: allowed is off, or nothing")
    return device.type == "cuda" and processes == 1 and not asked


def make_capturable(optimiser: torch.optim.Optimizer, device: torch.device) -> None:
    """Put all that a step changes or reads into tensors on the device; to be done again after a `load_state_dict`."""
    rate = torch.zeros((), device=device)  # float32 is what the fused kernel reads
    for group in optimiser.param_groups:
        group["lr"], group["capturable"] = rate, device.type == "cuda"  # torch allows it on accelerators only
    for state in optimiser.state.values():
        state["step"] = state["step"].to(device)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the step size of every group, in place where it is a tensor."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def portable_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's state, of one form whatever the device, and whether or not it is captured."""
    state = optimiser.state_dict()
    for group in state["param_groups"]:
        group["lr"], group["capturable"] = float(group["lr"]), False
    return state


@contextmanager
def _synchronisations() -> Iterator[list[str]]:
    """Collects what waits for the device meanwhile, which no capture allows. Torch can tell of most of it."""
    before = torch.cuda.get_sync_debug_mode()
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        if SYNCHRONISED in str(warning.message):
            found.append(f"{warning.filename}, line {warning.lineno}, waits for the device")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
