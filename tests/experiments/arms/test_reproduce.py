"""A comparison run by the sweep: gathered, not done again, grown by a seed, its failures told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowvi.errors import ConfigError, RunError
from flowvi.experiments import pictures
from flowvi.experiments.arms import gallery, reproduce
from flowvi.experiments.arms.arm import Arm, Budget, jobs_of
from flowvi.experiments.arms.reproduce import ablations, compare, figure4
from flowvi.experiments.arms.store import Images, Store
from flowvi.experiments.run import Run
from flowvi.experiments.train import train_run
from flowvi.reports.paired import difference

ARMS = [
    Arm("gaussian-0", "no flow", "dlgm.dc.mnist"),
    Arm("planar-2", "planar", "dlgm.nf10.mnist", {"flow.length": 2}),
    Arm("again", "planar again", "dlgm.nf10.mnist", {"flow.length": 2}),
]


@pytest.mark.usefixtures("here")
def test_results_are_gathered_and_a_comparison_grows(budget: Budget, tmp_path: Path) -> None:
    out, said = tmp_path / "out", list[str]()
    assert compare("tiny", ARMS, ("short", budget), out, 2, said.append)
    assert said == ["2 jobs, 0 of them done before"]
    store = Store(out, "tiny")
    assert [record["arms"] for record in store.records] == [["gaussian-0"], ["planar-2", "again"]]
    (record,), (images,) = store.of("again"), store.images("again")
    assert (record["budget"], record["overrides"], record["samples"], record["images"]) == ("short", {}, 5, 20)
    assert len(images.row) == 20
    assert images.nll.mean() == pytest.approx(record["nll"], rel=1e-5)
    assert images.free_energy.mean() == pytest.approx(record["free_energy"], rel=1e-5)
    found = difference(store.images("planar-2"), store.images("gaussian-0"), "nll")
    assert found is not None and found.mean == pytest.approx(record["nll"] - store.of("gaussian-0")[0]["nll"], rel=1e-4)

    before = (out / "tiny.jsonl").read_bytes(), (out / "tiny.npz").read_bytes()
    said.clear()
    assert compare("tiny", ARMS, ("short", budget), out, 2, said.append)
    assert said == ["2 jobs, 2 of them done before"]
    assert ((out / "tiny.jsonl").read_bytes(), (out / "tiny.npz").read_bytes()) == before

    assert compare("tiny", ARMS[:1], ("short", budget), out, 2, said.append, {"seed": [0, 1]})
    assert [record["seed"] for record in Store(out, "tiny").of("gaussian-0")] == [0, 1]
    assert [images.seed for images in Store(out, "tiny").images("gaussian-0")] == [0, 1]
    assert len(Store(out, "tiny").of("planar-2")) == 1


@pytest.mark.usefixtures("here")
def test_a_failed_job_is_told_and_the_others_are_on_file(
    budget: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Arm("broken", "broken", "dlgm.dc.mnist", {"model.encoder": "broken_networks:NaNLoss"})
    said: list[str] = []
    assert not compare("tiny", [ARMS[0], broken], ("short", budget), tmp_path, 2, said.append)
    assert said[1].startswith("failed: broken, seed 0: update 6: loss")
    assert [record["arms"] for record in Store(tmp_path, "tiny").records] == [["gaussian-0"]]
    monkeypatch.setenv("BREAKS_AT", "1000")
    assert compare("tiny", [ARMS[0], broken], ("short", budget), tmp_path, 2)
    assert len(Store(tmp_path, "tiny").records) == 2


@pytest.mark.usefixtures("here")
def test_curves_and_pictures_are_on_file(budget: Budget, tmp_path: Path) -> None:
    assert compare("tiny", ARMS, ("short", budget), tmp_path, 1, pictured=True)
    (record,) = Store(tmp_path, "tiny").of("planar-2")
    assert record["curve"]["update"][-1] == record["updates"]
    (more,) = record["more_samples"]
    assert (more["samples"], more["images"]) == (9, 10)
    few, many = (next(tmp_path.rglob(f"dlgm.nf10*/0/result-is-{name}.npz")) for name in ("5-images20", "9-images10"))
    before, after = (dict(zip(file["row"], file["log_evidence"], strict=True)) for file in map(np.load, (few, many)))
    assert more["change"] == pytest.approx(np.mean([before[row] - after[row] for row in after]))
    shown = gallery.read(tmp_path, "tiny")
    assert set(shown) == {"gaussian-0", "planar-2", "again"}
    ours, others = shown["planar-2"], shown["gaussian-0"]
    assert ours.samples.shape == (gallery.SAMPLES, ours.images.shape[1])
    assert np.array_equal(ours.images, others.images) and set(np.unique(ours.images)) <= {0, 255}
    assert not np.array_equal(ours.reconstructions, others.reconstructions)
    (tmp_path / "tiny-gallery.npz").write_bytes(b"no")
    with pytest.raises(RunError, match=r"cannot read .*tiny-gallery\.npz"):
        gallery.read(tmp_path, "tiny")


@pytest.mark.usefixtures("here")
def test_a_run_that_is_chosen_for_one_arm_stands_for_all_that_share_it(budget: Budget, tmp_path: Path) -> None:
    assert compare("tiny", ARMS, ("short", budget), tmp_path, 1, only=["again"])
    assert [record["arms"] for record in Store(tmp_path, "tiny").records] == [["planar-2", "again"]]


@pytest.mark.usefixtures("here")
def test_pictures_are_of_the_first_seed(budget: Budget, tmp_path: Path) -> None:
    assert compare("tiny", ARMS[:1], ("short", budget), tmp_path, 1, settings={"seed": [0]}, pictured=True)
    before = gallery.read(tmp_path, "tiny")["gaussian-0"].samples
    assert compare("tiny", ARMS[:1], ("short", budget), tmp_path, 1, settings={"seed": [0, 1]}, pictured=True)
    assert np.array_equal(gallery.read(tmp_path, "tiny")["gaussian-0"].samples, before)


@pytest.mark.usefixtures("here")
def test_files_that_cannot_be_written_lose_no_other_job(
    budget: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(found: Any, folder: Path, name: str) -> None:
        if any(job.run.finished and arm.name == "gaussian-0" for arm, job in found):
            raise RunError("the disk is full")

    monkeypatch.setattr(gallery, "keep", full)
    said: list[str] = []
    assert not compare("tiny", ARMS, ("short", budget), tmp_path, 1, said.append, pictured=True)
    assert said[1:] == ["not on file: no flow, seed 0: the disk is full"]
    assert len(Store(tmp_path, "tiny").records) == 2


@pytest.mark.parametrize("bytes_left", [0, 4, -30])
def test_a_damaged_file_of_arrays_is_said_to_be(bytes_left: int, tmp_path: Path) -> None:
    store = Store(tmp_path, "x")
    store.add([result(tmp_path / "images.npz", "a", 0, "one")])
    store.arrays.write_bytes(store.arrays.read_bytes()[:bytes_left])
    with pytest.raises(RunError, match=r"cannot read .*x\.npz .*: remove it, or name another folder"):
        Store(tmp_path, "x")


def result(path: Path, config_hash: str, seed: int, *arms: str, budget: str = "short") -> tuple[dict[str, Any], Path]:
    np.savez(path, row=np.arange(3), free_energy=np.ones(3), log_evidence=-np.zeros(3))
    about = {"config_hash": config_hash, "seed": seed, "arms": list(arms), "budget": budget, "overrides": {}}
    return {**about, "free_energy": 1.0, "nll": 0.0}, path


def test_a_result_of_another_config_gives_way(tmp_path: Path) -> None:
    store, file = Store(tmp_path, "x"), tmp_path / "images.npz"
    store.add([result(file, "a", 0, "one"), result(file, "a", 1, "one"), result(file, "b", 0, "two")])
    store.add([result(file, "c", 0, "one")])
    again = Store(tmp_path, "x")
    assert [(record["config_hash"], record["seed"]) for record in again.records] == [("b", 0), ("c", 0)]
    assert [type(images) for images in again.images("one")] == [Images]


def test_two_commands_with_one_folder_keep_each_others_results(tmp_path: Path) -> None:
    """Both have read the folder before either writes."""
    one, two, file = Store(tmp_path, "x"), Store(tmp_path, "x"), tmp_path / "images.npz"
    one.add([result(file, "a", 0, "one")])
    two.add([result(file, "b", 0, "two")])
    one.add([result(file, "a", 1, "one")])
    for store in (one, Store(tmp_path, "x")):
        assert [(each["config_hash"], each["seed"]) for each in store.records] == [("a", 0), ("b", 0), ("a", 1)]
        assert [len(store.images(arm)) for arm in ("one", "two")] == [2, 1]


def test_two_commands_of_different_budgets_are_not_mixed(tmp_path: Path) -> None:
    one, two, file = Store(tmp_path, "x"), Store(tmp_path, "x"), tmp_path / "images.npz"
    one.add([result(file, "a", 0, "one")])
    with pytest.raises(RunError, match="holds results of --budget short: choose another --out"):
        two.add([result(file, "b", 0, "two", budget="smoke")])
    assert [record["config_hash"] for record in Store(tmp_path, "x").records] == ["a"]


def test_a_result_that_could_not_be_written_is_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    store, file = Store(tmp_path, "x"), tmp_path / "images.npz"
    store.add([result(file, "a", 0, "one")])
    before = store.lines.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(RunError, match=r"cannot write .*x\.npz: No space left on device.*untouched"):
            store.add([result(file, "b", 0, "two")])
    assert store.lines.read_bytes() == before
    store.add([result(file, "c", 0, "three")])
    again = Store(tmp_path, "x")
    assert [record["config_hash"] for record in again.records] == ["a", "b", "c"]
    assert [len(again.images(arm)) for arm in ("one", "two", "three")] == [1, 1, 1]


def test_two_commands_with_one_folder_keep_each_others_pictures(
    budget: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One draws and writes while the other draws."""
    drawn, found = pictures.pictures_of, {arm.name: (arm, job) for arm, job in jobs_of(ARMS[:2], budget, {})}
    for _, job in found.values():
        train_run(Run.create(job.folder, job.run.config))

    def interleaved(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(pictures, "pictures_of", drawn)
        gallery.keep([found["planar-2"]], tmp_path, "x")
        return drawn(*args, **options)

    monkeypatch.setattr(pictures, "pictures_of", interleaved)
    gallery.keep([found["gaussian-0"]], tmp_path, "x")
    assert set(gallery.read(tmp_path, "x")) == {"gaussian-0", "planar-2"}


def test_budgets_and_overrides_are_never_mixed(tmp_path: Path) -> None:
    store = Store(tmp_path, "figure4")
    store.add([result(tmp_path / "images.npz", "a", 0, "gaussian-0")])
    with pytest.raises(RunError, match=r"figure4.jsonl holds results of --budget short: choose another --out"):
        figure4("smoke", tmp_path, 1)
    with pytest.raises(RunError, match=r"holds results of --budget short: choose another --out"):
        figure4("short", tmp_path, 1, settings={"training.batch": [50]})


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "figure4.jsonl").write_text(json.dumps({"nll": 1.0}) + "\n")
    with pytest.raises(RunError, match=r"holds what is no result of figure4: remove it, or choose another --out"):
        figure4("smoke", tmp_path, 1)


@pytest.mark.parametrize("run", [figure4, ablations])
def test_another_budget_is_refused(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"budget cannot be 'huge': it takes one of smoke, short"):
        run("huge", tmp_path, 1)


@pytest.mark.usefixtures("here")
def test_results_are_kept_where_the_sweep_is_stopped(
    budget: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare("first", ARMS[:1], ("short", budget), tmp_path, 1)

    def stopped(*todo: Any, **settings: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "sweep_jobs", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare("second", ARMS, ("short", budget), tmp_path, 1)
    assert [record["arms"] for record in Store(tmp_path, "second").records] == [["gaussian-0"]]
