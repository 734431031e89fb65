"""Run the cells of Figure 3: train, measure, put on file."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import torch

from flowvi.errors import ConfigError, InterruptedRun, RunError
from flowvi.experiments.choice import choose
from flowvi.experiments.figure3.cells import FLOWS, Cell, cells
from flowvi.experiments.figure3.energies import ENERGIES
from flowvi.experiments.figure3.quadrature import Integrals, stable
from flowvi.experiments.figure3.store import Record, Store
from flowvi.experiments.figure3.training import train
from flowvi.experiments.interrupt import stop_requests
from flowvi.flows import Flow
from flowvi.provenance import provenance

__all__ = ["measure", "reproduce"]

NEAR = 0.3  # of its true mass: a mode is found


class Measured(NamedTuple):
    """A cell's results, and the flow of median KL."""

    cell: Cell
    records: list[Record]
    flow: Flow


def reproduce(
    budget: str,
    out: Path,
    jobs: int,
    say: Callable[[str], None] = lambda line: None,
    overrides: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
) -> None:
    """Run the cells of a budget that are not on file yet.

    Args:
        budget: `smoke` or `default`.
        out: the folder of the files.
        jobs: processes, each with one thread.
        say: told a line on each cell as it is done.
        overrides: none are taken.
        only: patterns of the cells' names, such as `U1/planar/*`; without any, all cells.

    Raises:
        ConfigError: another budget, overrides, or a pattern that fits no cell.
        RunError: files that cannot be used, or are of another budget; a process that was killed.
        NonFiniteError: a free energy that is not finite.
        InterruptedRun: it was asked to stop; cells that were done are on file.
    """
    if overrides:
        raise ConfigError(f"figure3 takes no settings: leave out {', '.join(overrides)}")
    wanted, store = choose(cells(budget), only, lambda cell: cell.name), Store(out)
    store.check_budget(budget)
    left = [cell for cell in wanted if not store.has(cell)]
    if len(left) < len(wanted):
        say(f"{len(wanted) - len(left)} of {len(wanted)} cells are on file")
    about = {"figure": "figure3", "budget": budget, **provenance()}
    for number, done in enumerate(_each(left, min(jobs, len(left))), len(wanted) - len(left) + 1):
        store.add(done.cell, [{**record, **about} for record in done.records], done.flow)
        say(f"{number:>{len(str(len(wanted)))}}/{len(wanted)}  {_line(done)}")


def measure(cell: Cell) -> Measured:
    """Train a cell's restarts and measure each."""
    flow, energy, scheme = FLOWS[cell.flow], ENERGIES[cell.energy], cell.scheme
    began = time.monotonic()
    trained = train(flow.kind, cell.length, energy, range(cell.restarts), scheme, **flow.options)
    seconds = time.monotonic() - began
    flows = [trained.flow(restart) for restart in range(cell.restarts)]
    records = []
    for seed, each in enumerate(flows):
        found, change = stable(each.double()().log_prob, energy.log_density, energy.regions)
        records.append(
            {
                "energy": cell.energy,
                "flow": cell.flow,
                "length": cell.length,
                "seed": seed,
                **_described(found),
                "quadrature_change": change,
                "updates": scheme.updates,
                "batch": scheme.batch,
                "learning_rate": scheme.learning_rate,
                "parameter_count": sum(p.numel() for p in each.parameters()),
                "restarts": cell.restarts,
                "train_seconds": round(seconds, 2),  # of all restarts together
            }
        )
    ranked = sorted(range(cell.restarts), key=lambda seed: float(records[seed]["kl"]))
    return Measured(cell, records, flows[ranked[(cell.restarts - 1) // 2]].float())


def _described(found: Integrals) -> Record:
    near = (abs(mass / found.true_masses[name] - 1) <= NEAR for name, mass in found.masses.items())
    return {
        "kl": found.kl,
        "ln_z": found.ln_z,
        "mass_outside": 1 - found.mass,
        **{f"mass_{name}": mass for name, mass in found.masses.items()},
        **{f"true_mass_{name}": mass for name, mass in found.true_masses.items()},
        "modes_found": all(near),
        "quadrature_sides": found.sides,
    }


def _line(done: Measured) -> str:
    cell, records = done.cell, done.records
    kls = sorted(record["kl"] for record in records)
    spread = f" ({kls[0]:.3f} to {kls[-1]:.3f})" if len(kls) > 1 else ""
    outside = max(record["mass_outside"] for record in records)
    modes = sum(record["modes_found"] for record in records)
    return (
        f"{cell.energy}  {FLOWS[cell.flow].title + ', K = ' + str(cell.length):26}  "
        f"KL {kls[(len(kls) - 1) // 2]:.3f}{spread} nats, modes found {modes}/{len(kls)}, "
        f"mass outside {outside:.0e}, {records[0]['train_seconds']:.0f} s"
    )


def _each(left: Sequence[Cell], jobs: int) -> Iterator[Measured]:
    """The cells as they are done, by so many processes."""
    if jobs <= 1:
        yield from map(measure, left)
        return
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    with stop_requests() as stop, ProcessPoolExecutor(jobs, context, initializer=_alone) as pool:
        waiting: set[Future[Measured]] = {pool.submit(measure, cell) for cell in left}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for each in done:
                    yield each.result()
                if stop.is_set():
                    raise InterruptedRun("stopped: the cells that were done are on file; the same command goes on")
        except BrokenProcessPool as error:
            raise RunError(
                "a process was killed, perhaps for memory: the same command with fewer --jobs goes on"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - others:
                child.kill()


def _alone() -> None:
    """A worker: one thread, and what the terminal sends is for the parent to act on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
