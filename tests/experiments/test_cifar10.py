"""Patches of CIFAR-10 in training and test, and Table 3's runs; on images so small in number that it takes seconds."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flowvi.errors import ConfigError, DataError, RunError
from flowvi.experiments import cifar10
from flowvi.experiments.assembly import assemble, load_data
from flowvi.experiments.config import Config, resolve
from flowvi.experiments.engine import Engine, make_fabric
from flowvi.experiments.evaluate import test as run_test
from flowvi.experiments.presets import PRESETS
from flowvi.experiments.run import Run
from flowvi.experiments.sweep import Outcome
from flowvi.experiments.sweeps.grid import Job, plan
from flowvi.experiments.train import train, train_run
from flowvi.models import Bernoulli, LogitNormal
from flowvi.reports.reproductions import REPRODUCTIONS
from flowvi.reports.samples import draw

Settings = dict[str, Any]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 training and 30 test images, smooth, each of its own colour."""
    random = np.random.RandomState(0)
    colours = random.randint(20, 230, (150, 3, 1, 1)) + random.randint(-20, 20, (150, 3, 32, 32))
    file = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(file, train=colours[:120].astype(np.uint8), test=colours[120:].astype(np.uint8))
    return file


@pytest.fixture
def small(tiny: Settings, images: Path) -> Settings:
    """`tiny` of these images; the flow is the preset's."""
    more = {"data.path": str(images), "data.validation": 20}
    return {key: value for key, value in {**tiny, **more}.items() if key != "flow.length"}


def engine_of(settings: Settings) -> Engine:
    config = resolve("dlgm.nf2.cifar10", settings)
    fabric = make_fabric(config)
    return Engine(fabric, config, load_data(config, fabric.device))


def test_presets_are_the_papers_models() -> None:
    lengths = {0: "dc", 2: "nf2", 5: "nf5", 10: "nf10"}
    for length, name in lengths.items():
        config = resolve(f"dlgm.{name}.cifar10")
        assert (config.flow.kind, config.flow.length) == ("planar" if length else "gaussian", length)
        assert (config.model.latents, config.data.name, config.data.likelihood) == ((30,), "cifar10", "logit_normal")
    assert tuple(name for name in PRESETS if name.endswith(".cifar10")) == cifar10.PRESETS


def test_the_likelihood_is_the_data_sets(small: Settings, data: Path) -> None:
    ours = assemble(resolve("dlgm.nf2.cifar10", small), 192)
    assert isinstance(ours.likelihood, LogitNormal) and ours.decoder.output.out_features == 384
    for preset, settings in (("dlgm.nf10.mnist", {}), ("dlgm.nf10.mnist", {"data.path": str(data)})):
        config = resolve(preset, {**settings, "model.maxout": "8-4"})
        assert isinstance(assemble(config, 16).likelihood, Bernoulli)


def test_a_path_is_a_file_of_the_data_set_and_only_of_this_one(tmp_path: Path) -> None:
    ours = resolve("dlgm.dc.cifar10", {"data.path": str(tmp_path / "few.npz")})
    assert (ours.data.name, ours.data.pixels) == ("cifar10", "continuous pixels")
    assert Config.from_dict(ours.to_dict()) == ours
    other = resolve("dlgm.dc.mnist", {"data.path": str(tmp_path / "cifar10.npz")})
    assert (other.data.name, other.data.likelihood) == ("cifar10-file", "bernoulli")
    chosen = resolve("dlgm.dc.mnist", {"data.path": str(tmp_path / "few.npz"), "data.name": "cifar10"})
    assert chosen.data.likelihood == "logit_normal"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"data.binarisation": "dynamic"},
            "data.binarisation is of binary pixels, which data.name=cifar10 does not have: leave it out",
        ),
        (
            {"data.path": "few.npz", "data.packed": 192},
            "data.packed is for a file of your own: leave it out with data.name=cifar10",
        ),
        ({"training.batch": 40_001}, "training.batch=40001 is more than the 40000 training images: set 40000 or less"),
        (
            {"data.validation": 0},
            "training.selection=validation needs validation images: set data.validation=10000, or "
            "training.selection=last",
        ),
    ],
)
def test_conflicts(settings: Settings, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("dlgm.dc.cifar10", settings)
    assert str(caught.value) == line


def test_patches_are_those_of_the_runs_seed_whatever_the_number_of_processes(small: Settings) -> None:
    one, again, other = (engine_of({**small, "seed": seed}) for seed in (1, 1, 2))
    torch.manual_seed(5)
    alone, _ = one._batch()
    again.fabric = SimpleNamespace(world_size=2, device=again.fabric.device)  # type: ignore[assignment]
    torch.manual_seed(5)
    shared, noise = again._batch()
    assert torch.equal(alone, shared) and noise is not None
    torch.manual_seed(5)
    assert not torch.equal(alone, other._batch()[0])


def test_a_state_restores_the_patches_too(small: Settings) -> None:
    engine, other = engine_of(small), engine_of(small)
    for _ in range(3):
        engine.step()
    saved = copy.deepcopy(engine.state())
    for _ in range(4):
        engine.step()
    other.restore(saved)
    for _ in range(4):
        other.step()
    for ours, theirs in zip(engine.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_is_trained_tested_and_drawn(small: Settings, tmp_path: Path) -> None:
    run = train("dlgm.nf2.cifar10", out=tmp_path / "run", **small)
    result = run_test(run, samples=5)
    assert result["data"] == "cifar10" and result["binarisation"] == "none" and result["latents"] == [2]
    assert result["subset"] == "120 of 50,000 training and 30 of 10,000 test images"
    assert (result["train_images"], result["images"]) == (100, 30)
    assert math.isfinite(result["nll"]) and result["nll"] < 0  # which a Bernoulli likelihood never gives
    assert run_test(run, samples=5)["nll"] == result["nll"]
    losses = [json.loads(line).get("validation_free_energy") for line in run.metrics.read_text().splitlines()]
    found = [loss for loss in losses if loss is not None]
    assert found[-1] < found[0]
    assert draw(run, tmp_path / "samples.png").stat().st_size > 10_000


def test_reproduce(small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs are run in this process, in place of the sweep's own."""
    asked: list[Any] = []

    def sweep(presets: tuple[str, ...], jobs: int, retry: bool, **axes: Any) -> list[Outcome]:
        asked.append((jobs, axes))
        return [Outcome(job, "done", result=run_test(done(job))) for job in plan(presets, axes)]

    def done(job: Job) -> Run:
        run = Run.create(job.folder, job.run.config)
        train_run(run)
        return run

    monkeypatch.setattr(cifar10, "sweep", sweep)
    axes = {key: [value] for key, value in {**small, "training.updates": 3}.items() if key != "data.validation"}
    axes["seed"] = [0, 1]
    said: list[str] = []
    cifar10.reproduce("smoke", tmp_path / "out", 2, said.append, axes)
    assert said == ["CIFAR-10, a subset: 120 of 50,000 training and 30 of 10,000 test images"]
    assert asked[0][0] == 2 and asked[0][1]["data.validation"] == 12 and asked[0][1]["training.updates"] == [3]
    records = [json.loads(line) for line in (tmp_path / "out" / "cifar10.jsonl").read_text().splitlines()]
    assert [(record["length"], record["seed"]) for record in records] == [(k, s) for k in (0, 2, 5, 10) for s in (0, 1)]
    for seed in (0, 1):
        none, two = (next(r for r in records if (r["length"], r["seed"]) == (k, seed)) for k in (0, 2))
        assert "gain" not in none and two["gain"] == pytest.approx(none["nll"] - two["nll"], abs=1e-3)
        assert 0 < two["gain_se"] < 100 and two["budget"] == "smoke"


def test_reproduce_of_all_images_leaves_the_protocols_split(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: list[Any] = []
    whole = SimpleNamespace(subset=None, arrays={"train": range(50_000)})
    monkeypatch.setattr(cifar10, "read", lambda path: whole)
    monkeypatch.setattr(cifar10, "sweep", lambda presets, **settings: found.append(settings) or [])
    for budget in cifar10.BUDGETS:
        cifar10.reproduce(budget, tmp_path, 1)
    assert [settings["data.validation"] for settings in found] == [5_000, 5_000, 0]
    assert [settings["training.protocol"] for settings in found] == ["quick", "modern", "paper"]


def test_a_failed_run_is_told_and_nothing_is_put_on_file(
    small: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def sweep(presets: tuple[str, ...], jobs: int, retry: bool, **axes: Any) -> list[Outcome]:
        return [Outcome(job, "failed", message="killed") for job in plan(presets, axes)]

    monkeypatch.setattr(cifar10, "sweep", sweep)
    with pytest.raises(RunError, match=r"4 of 4 runs failed, the first in .*: killed; the same command tries again"):
        cifar10.reproduce("smoke", tmp_path / "out", 1, axes={"data.path": [small["data.path"]]})
    assert not (tmp_path / "out").exists()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep whose results say no more than what they are of."""

    def sweep(presets: Sequence[str], jobs: int, retry: bool, **axes: Any) -> list[Outcome]:
        return [Outcome(job, "done", result=about(job)) for job in plan(presets, axes)]

    def about(job: Job) -> Settings:
        config = job.run.config
        return {"config": config.preset, "config_hash": config.hash(), "seed": config.seed}

    monkeypatch.setattr(cifar10, "sweep", sweep)


def on_file(folder: Path) -> list[tuple[str, int]]:
    lines = (folder / "cifar10.jsonl").read_text().splitlines()
    return [(record["config"].split(".")[1], record["seed"]) for record in map(json.loads, lines)]


@pytest.mark.usefixtures("told")
def test_two_commands_with_one_folder_keep_each_others_results(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One runs, from its first look at the folder to its last line, while the other trains."""
    swept, axes = cifar10.sweep, {"data.path": [str(images)]}

    def interleaved(*presets: Any, **settings: Any) -> list[Outcome]:
        monkeypatch.setattr(cifar10, "sweep", swept)
        cifar10.reproduce("smoke", tmp_path, 1, axes=axes, only=["*.nf2.*"])
        return swept(*presets, **settings)

    monkeypatch.setattr(cifar10, "sweep", interleaved)
    cifar10.reproduce("smoke", tmp_path, 1, axes={**axes, "seed": [0, 1]}, only=["*.nf5.*"])
    assert on_file(tmp_path) == [("nf2", 0), ("nf5", 0), ("nf5", 1)]
    cifar10.reproduce("smoke", tmp_path, 1, axes={**axes, "seed": [0], "training.updates": [7]}, only=["*.nf5.*"])
    assert on_file(tmp_path) == [("nf2", 0), ("nf5", 0)]  # another config of the same preset takes its place


def test_a_row_made_again_alone_keeps_its_gain_while_its_weights_are_the_same(tmp_path: Path) -> None:
    row: Settings = {"config": "dlgm.nf2.cifar10", "config_hash": "a", "seed": 0, "budget": "smoke"}
    for weights, more, gain in (("w", {"gain": 14.0, "gain_se": 0.8}, 14.0), ("w", {}, 14.0), ("v", {}, None)):
        cifar10._put_on_file(tmp_path, [{**row, "weights_sha256": weights, **more}], "smoke")
        (found,) = map(json.loads, (tmp_path / "cifar10.jsonl").read_text().splitlines())
        assert (found.get("gain"), found["weights_sha256"]) == (gain, weights)


@pytest.mark.usefixtures("told")
def test_a_folder_is_of_one_budget(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"data.path": [str(images)]}
    cifar10.reproduce("smoke", tmp_path, 1, axes=axes, only=["*.nf5.*"])
    monkeypatch.setattr(cifar10, "sweep", None)
    with pytest.raises(RunError, match=r"cifar10\.jsonl holds results of --budget smoke: choose another --out"):
        cifar10.reproduce("short", tmp_path, 1, axes=axes)
    assert on_file(tmp_path) == [("nf5", 0)]


@pytest.mark.parametrize(
    ("axes", "kind", "message"),
    [
        ({"data.path": ["a.npz", "b.npz"]}, ConfigError, "data.path has 2 values: it takes one"),
        ({"data.name": ["mnist"]}, ConfigError, "data.name cannot be 'mnist': what is reproduced is cifar10"),
        ({"training.updates": ["many"]}, ConfigError, "training.updates cannot be 'many'"),
        ({"data.path": ["nowhere.npz"]}, DataError, "nowhere.npz does not exist"),
    ],
)
def test_reproduce_refuses_before_any_work(axes: Settings, kind: type, message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=message):
        cifar10.reproduce("smoke", tmp_path, 1, axes=axes)


def test_budgets_are_the_ones_that_are_listed(tmp_path: Path) -> None:
    assert set(REPRODUCTIONS["cifar10"].budgets) == set(cifar10.BUDGETS)
    with pytest.raises(ConfigError, match="budget cannot be 'huge': it takes one of smoke, short, paper"):
        cifar10.reproduce("huge", tmp_path, 1)
