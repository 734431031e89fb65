"""The run as a whole, at a tiny budget: what is written, what a second run does, what a broken folder says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowvi.errors import ConfigError, RunError
from flowvi.experiments.figure3 import cells as cells_module
from flowvi.experiments.figure3 import reproduce as module
from flowvi.experiments.figure3.cells import BUDGETS, FLOWS, Cell, cells
from flowvi.experiments.figure3.energies import ENERGIES
from flowvi.experiments.figure3.quadrature import stable
from flowvi.experiments.figure3.reproduce import measure, reproduce
from flowvi.experiments.figure3.scheme import Scheme
from flowvi.experiments.figure3.store import Store

TINY = Scheme(updates=4, batch=16)


def tiny() -> list[Cell]:
    return [Cell("U1", "planar", 2, 3, TINY), Cell("U4", "nice-orthogonal", 2, 1, TINY)]


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Cell]], None]:
    """Makes the cells that `tiny` stands for."""

    def put(made: list[Cell]) -> None:
        monkeypatch.setitem(BUDGETS, "tiny", lambda: made)  # type: ignore[index]

    put(tiny())
    return put


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "figure3.jsonl").read_text().splitlines()]


def test_a_line_for_each_restart_and_a_flow_for_each_cell(budget: Any, tmp_path: Path) -> None:
    said: list[str] = []
    reproduce("tiny", tmp_path / "new", 1, said.append)
    found = lines(tmp_path / "new")
    places = [(each["energy"], each["flow"], each["length"], each["seed"]) for each in found]
    assert places == [
        ("U1", "planar", 2, 0),
        ("U1", "planar", 2, 1),
        ("U1", "planar", 2, 2),
        ("U4", "nice-orthogonal", 2, 0),
    ]
    for record in found:
        assert record["kl"] > 0
        assert abs(record["mass_outside"]) < 1e-4
        assert (record["updates"], record["batch"], record["learning_rate"]) == (4, 16, 0.02)
        assert {"ln_z", "modes_found", "train_seconds", "versions", "machine", "commit", "parameter_count"} <= set(
            record
        )
    assert found[0]["mass_left"] + found[0]["mass_right"] == pytest.approx(1, abs=1e-4)
    assert {"mass_upper", "true_mass_lower"} <= set(found[-1])
    assert len(said) == 2
    assert "planar, K = 2" in said[0]
    assert sorted(path.name for path in (tmp_path / "new").glob("[!.]*")) == ["figure3.jsonl", "figure3.npz"]


def test_the_flow_on_file_is_the_median_one(budget: Any, tmp_path: Path) -> None:
    reproduce("tiny", tmp_path, 1)
    store, energy = Store(tmp_path), ENERGIES["U1"]
    flow = store.flow("U1", "planar", 2)
    assert flow is not None
    found, _ = stable(flow().log_prob, energy.log_density, energy.regions)
    assert found.kl == pytest.approx(sorted(each["kl"] for each in store.records[:3])[1], abs=1e-9)
    assert store.flow("U1", "planar", 8) is None


def test_what_is_on_file_is_not_done_again(budget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget(tiny()[:1])
    reproduce("tiny", tmp_path, 1)
    done, first = [], (tmp_path / "figure3.jsonl").read_text()

    def counted(cell: Cell) -> Any:
        done.append(cell.name)
        return measure(cell)

    monkeypatch.setattr(module, "measure", counted)
    budget(tiny())
    said: list[str] = []
    reproduce("tiny", tmp_path, 1, said.append)
    assert done == ["U4/nice-orthogonal/2"]
    assert said[0] == "1 of 2 cells are on file"
    assert (tmp_path / "figure3.jsonl").read_text().startswith(first)
    assert Store(tmp_path).flow("U1", "planar", 2) is not None
    reproduce("tiny", tmp_path, 1)
    assert len(done) == 1


def test_other_settings_replace_what_was_there(budget: Any, tmp_path: Path) -> None:
    budget(tiny()[:1])
    reproduce("tiny", tmp_path, 1)
    budget([Cell("U1", "planar", 2, 1, Scheme(updates=5, batch=16))])
    reproduce("tiny", tmp_path, 1)
    assert [(each["seed"], each["updates"]) for each in lines(tmp_path)] == [(0, 5)]


def test_the_processes_give_what_one_gives(budget: Any, tmp_path: Path) -> None:
    reproduce("tiny", tmp_path / "one", 1)
    reproduce("tiny", tmp_path / "two", 2)
    one, two = (
        [{key: value for key, value in each.items() if key != "train_seconds"} for each in lines(tmp_path / name)]
        for name in ("one", "two")
    )
    for ours, theirs in zip(one, two, strict=True):
        assert ours.pop("kl") == pytest.approx(theirs.pop("kl"), abs=1e-3)
        assert ours["seed"] == theirs["seed"]


def test_a_request_to_stop(budget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ctrl-C leaves: the cells that were done, and none half done."""

    def interrupted(cell: Cell) -> Any:
        if cell.energy == "U4":
            raise KeyboardInterrupt
        return measure(cell)

    monkeypatch.setattr(module, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reproduce("tiny", tmp_path, 1)
    assert {each["energy"] for each in lines(tmp_path)} == {"U1"}
    monkeypatch.undo()


def test_two_commands_with_one_folder_keep_each_others_cells(
    budget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One runs, from its first look at the folder to its last line, while the other measures."""

    def interleaved(cell: Cell) -> Any:
        monkeypatch.setattr(module, "measure", measure)
        reproduce("tiny", tmp_path, 1, only=["U4/*"])
        return measure(cell)

    monkeypatch.setattr(module, "measure", interleaved)
    reproduce("tiny", tmp_path, 1, only=["U1/*"])
    assert [each["energy"] for each in lines(tmp_path)] == ["U1", "U1", "U1", "U4"]
    store = Store(tmp_path)
    assert all(store.has(cell) for cell in tiny())


def test_two_commands_of_different_budgets_are_not_mixed(budget: Any, tmp_path: Path) -> None:
    one, two = Store(tmp_path), Store(tmp_path)
    cell, records, flow = measure(tiny()[1])
    one.add(cell, [{**record, "budget": "tiny"} for record in records], flow)
    with pytest.raises(RunError, match="holds results of --budget tiny: choose another --out"):
        two.add(cell, [{**record, "budget": "huge"} for record in records], flow)
    assert {each["budget"] for each in lines(tmp_path)} == {"tiny"}


def test_a_folder_is_of_one_budget(budget: Any, tmp_path: Path) -> None:
    reproduce("tiny", tmp_path, 1)
    with pytest.raises(RunError, match="holds results of --budget tiny: choose another --out"):
        reproduce("smoke", tmp_path, 1)


@pytest.mark.parametrize("content", ["{", "[1]", '{"energy": "U1"}'])
def test_lines_that_are_no_results(tmp_path: Path, content: str) -> None:
    (tmp_path / "figure3.jsonl").write_text(content + "\n")
    with pytest.raises(RunError, match=r"figure3\.jsonl"):
        reproduce("smoke", tmp_path, 1)


def test_weights_that_are_none(budget: Any, tmp_path: Path) -> None:
    (tmp_path / "figure3.npz").write_bytes(b"no")
    with pytest.raises(RunError, match="cannot read"):
        Store(tmp_path)
    np.savez(tmp_path / "figure3.npz", **{"U1/planar/2/base.location": np.zeros(3)})
    with pytest.raises(RunError, match="does not hold a planar flow as U1/planar/2"):
        Store(tmp_path).flow("U1", "planar", 2)


def test_an_unknown_budget(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="budget cannot be 'huge': it takes one of smoke, default"):
        reproduce("huge", tmp_path, 1)
    assert not list(tmp_path.iterdir())


def test_the_budgets() -> None:
    smoke, default = cells("smoke"), cells("default")
    assert {cell.flow for cell in smoke} == {"planar"}
    assert {cell.restarts for cell in smoke} == {1}
    assert {(cell.energy, cell.flow, cell.length) for cell in default} == {
        (energy, flow, length) for energy in ENERGIES for flow in FLOWS for length in (2, 8, 32)
    }
    assert {cell.restarts for cell in default if cell.flow == "planar"} == {10}
    assert {cell.scheme for cell in default if "nice" not in cell.flow} == {Scheme()}
    assert {(cell.scheme.updates, cell.scheme.batch) for cell in default} == {(Scheme().updates, Scheme().batch)}
    assert list(ENERGIES) == list(cells_module.ENERGIES)


def test_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"figure3 takes no settings: leave out training.updates"):
        reproduce("smoke", tmp_path, 1, overrides={"training.updates": 5})
