"""Tests of trained runs, the results they leave, and the files that gather them."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flowvi
from flowvi.errors import ConfigError, FlowviError, RunError
from flowvi.experiments import results
from flowvi.experiments.assembly import load_data
from flowvi.experiments.estimators import importance
from flowvi.experiments.estimators.importance import evidence_of_images
from flowvi.experiments.evaluate import result_path
from flowvi.experiments.results import collect, mean_and_error
from flowvi.experiments.run import Run, as_run
from flowvi.models import DLGM

Settings = dict[str, Any]
CPU = torch.device("cpu")

KEYS: dict[str, tuple[type, ...]] = {
    "config": (str,), "config_hash": (str,), "seed": (int,), "data": (str,), "binarisation": (str,),
    "protocol": (str,), "flow": (str,), "length": (int,), "invertibility": (str,), "init": (str,),
    "parameters_source": (str,), "parameter_count": (int,), "maxout": (str,), "updates": (int,),
    "selection": (str,), "train_images": (int,), "split": (str,), "images": (int,), "free_energy": (float,),
    "free_energy_se": (float,), "nll": (float,), "nll_se": (float,), "kl": (float,), "estimator": (str,),
    "samples": (int,), "precision": (str,), "train_seconds": (float,), "test_seconds": (float,),
    "versions": (str,), "machine": (str,), "commit": (str, type(None)),
}  # fmt: skip


@pytest.fixture
def run(tiny: Settings, tmp_path: Path) -> Run:
    return flowvi.train("dlgm.nf10.mnist", out=tmp_path / "run", **tiny)


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("train_seconds", "test_seconds")}


def test_a_result_has_what_the_design_lists(run: Run) -> None:
    result = flowvi.test(run)
    for key, kinds in KEYS.items():
        assert type(result[key]) in kinds, key
    assert json.loads((run.folder / "result.json").read_text()) == result
    expected = {
        "config": "dlgm.nf10.mnist", "seed": 0, "data": "tiny", "binarisation": "file:tiny",
        "protocol": "modern",
        "flow": "planar", "length": 2, "invertibility": "centred", "init": "identity", "maxout": "8-4",
        "parameters_source": "amortised", "updates": 30, "train_images": 320, "split": "test", "images": 40,
        "estimator": "is", "samples": 200, "precision": "32", "selection": "validation",
    }  # fmt: skip
    assert {key: result[key] for key in expected} == expected
    assert result["config_hash"] == run.config.hash()
    assert result["parameter_count"] == sum(p.numel() for p in flowvi.load(run).parameters())
    assert all(not isinstance(value, dict) for value in result.values()), "flat"


def test_the_figures_come_from_the_images(run: Run) -> None:
    result = flowvi.test(run.folder)
    with np.load(run.folder / "result.npz") as saved:
        images = dict(saved)
    assert list(images["row"]) == list(range(40))
    for name, values in (
        ("free_energy", images["free_energy"]),
        ("nll", -images["log_evidence"]),
        ("kl", images["free_energy"] + images["log_evidence"]),
    ):
        assert values.dtype == np.float64
        assert result[name] == pytest.approx(values.mean(), rel=1e-12)
        assert result[f"{name}_se"] == pytest.approx(values.std(ddof=1) / math.sqrt(40), rel=1e-12)
    assert result["kl"] == pytest.approx(result["free_energy"] - result["nll"], abs=1e-9)
    assert result["kl"] > 0
    assert 1 <= result["effective_samples"] <= 200


def test_a_test_repeats_itself_and_leaves_the_random_state(run: Run) -> None:
    torch.manual_seed(9)
    before = torch.get_rng_state()
    one = flowvi.test(run, samples=7)
    torch.rand(3)
    again = flowvi.test(run, samples=7)
    assert timeless(one) == timeless(again)
    torch.manual_seed(9)
    flowvi.test(run, samples=7)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "result"),
        ({"samples": 200}, "result"),
        ({"samples": 3}, "result-is-3"),
        ({"images": 5}, "result-is-200-images5"),
        ({"samples": 3, "images": 5}, "result-is-3-images5"),
    ],
)
def test_each_test_has_files_of_its_own(run: Run, settings: Settings, name: str) -> None:
    flowvi.test(run, **settings)
    assert sorted(path.name for path in run.folder.glob("result*")) == [f"{name}.json", f"{name}.npz"]
    assert result_path(run.folder, **settings) == run.folder / f"{name}.json"


def test_a_subset_is_drawn_by_the_seed_of_the_data(run: Run) -> None:
    result = flowvi.test(run, images=12, samples=2)
    with np.load(run.folder / "result-is-2-images12.npz") as saved:
        rows = saved["row"]
    assert result["images"] == len(rows) == len(set(rows)) == 12
    assert set(rows) < set(range(40))
    assert list(rows) != list(range(12))
    assert list(rows) == sorted(rows)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"images": 0}, "images cannot be 0: it takes a whole number"),
        ({"images": 41}, "allowed is 1 to 40"),
        ({"samples": 0}, "samples cannot be 0: it takes a whole number, 1 or more"),
        ({"samples": None}, "samples cannot be None"),
        ({"samples": 2.5}, "samples cannot be 2.5"),
        ({"estimator": "magic"}, "it takes one of is, ais, bdmc"),
        ({"estimator": "ais", "images": 41}, "there are 40 test images, allowed is 1 to 40"),
        ({"estimator": "ais", "samples": 3}, "estimator=ais has no setting samples: it takes distributions, chains,"),
        ({"estimator": "bdmc", "chains": 0}, "chains cannot be 0"),
        ({"estimator": "bdmc", "initial": "q"}, "it takes one of posterior, prior"),
        ({"sampels": 3}, "estimator=is has no setting sampels: it takes samples, images"),
    ],
)
def test_what_cannot_be_tested(run: Run, settings: Settings, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        flowvi.test(run, **settings)
    assert not list(run.folder.glob("result*"))


def test_one_image_has_no_standard_error(run: Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = flowvi.test(run, images=1, samples=2)
    assert math.isnan(result["nll_se"])
    assert math.isfinite(result["nll"])


def test_standard_error() -> None:
    mean, error = mean_and_error(torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64))
    assert mean == 3.0
    assert error == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3) / 2)


def test_memory_is_bounded_and_the_encoder_runs_once_for_each_image(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, pairs = [], []
    model = flowvi.load(run)
    model.encoder.register_forward_hook(lambda module, inputs, output: encoded.append(len(inputs[0])))
    log_joint = DLGM.log_joint

    def counting(self: DLGM, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        pairs.append(z.shape[0] * z.shape[1])
        return log_joint(self, x, z)

    monkeypatch.setattr(DLGM, "log_joint", counting)
    monkeypatch.setattr(importance, "IMAGES_AT_ONCE", 16)
    images = load_data(run.config, CPU).test
    found = evidence_of_images(model, images, torch.arange(40), 1000, seed=0)
    assert encoded == [16, 16, 8]
    assert sum(pairs) == 40 * 1000
    assert max(pairs) <= 5000
    assert found.free_energy.shape == found.log_evidence.shape == (40,)


def test_more_samples_lower_the_estimate(run: Run) -> None:
    few, many = flowvi.test(run, samples=2), flowvi.test(run, samples=500)
    assert many["nll"] < few["nll"]
    assert many["free_energy"] == pytest.approx(few["free_energy"], abs=0.3)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"precision": "bf16"}, {"precision": "bf16"}),
        ({"flow.kind": "gaussian", "flow.length": 0}, {"flow": "gaussian", "length": 0, "init": None}),
        ({"flow.parameters": "static"}, {"parameters_source": "static"}),
        (
            {"training.selection": "last", "training.protocol": "paper"},
            {"invertibility": "paper", "selected_update": 30},
        ),
    ],
)
def test_results_of_variants(tiny: Settings, tmp_path: Path, more: Settings, expected: Settings) -> None:
    run = flowvi.train("dlgm.nf10.mnist", out=tmp_path / "run", **{**tiny, **more})
    result = flowvi.test(run, samples=2)
    assert {key: result[key] for key in expected} == expected
    assert math.isfinite(result["nll"])


def test_dynamic_runs_are_tested_on_fixed_images(tiny: Settings, grey: Path, tmp_path: Path) -> None:
    more = {"data.path": str(grey), "data.binarisation": "dynamic"}
    run = flowvi.train("dlgm.nf10.mnist", out=tmp_path / "run", **{**tiny, **more})
    one, two = flowvi.test(run, samples=2), flowvi.test(run, samples=2)
    assert one["nll"] == two["nll"]
    assert one["binarisation"] == "dynamic"


def test_gathering_appends_replaces_and_keeps_the_rest(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "all.jsonl"
    flowvi.test(run, samples=2)
    assert collect([run.folder], out) == 1
    flowvi.test(run, samples=3)
    assert collect([run.folder], out) == 2
    assert [json.loads(line)["samples"] for line in out.read_text().splitlines()] == [2, 3]
    other = {**json.loads(out.read_text().splitlines()[0]), "seed": 77}
    out.write_text(json.dumps(other) + "\n" + out.read_text())
    changed = {**other, "seed": 0, "nll": -1.0}
    (run.folder / "result-is-2.json").write_text(json.dumps(changed))
    assert collect([str(run.folder)], str(out)) == 2
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["seed"], line["samples"]) for line in found] == [(77, 2), (0, 2), (0, 3)]
    assert found[1]["nll"] == -1.0


def test_two_commands_that_gather_in_one_file_keep_each_others_results(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One gathers and writes while the other gathers."""
    out, other = tmp_path / "all.jsonl", tmp_path / "other"
    flowvi.test(run, samples=2)
    shutil.copytree(run.folder, other)
    (changed := other / "result-is-2.json").write_text(json.dumps({**json.loads(changed.read_text()), "seed": 77}))

    def interleaved(folder: Any) -> Run:
        monkeypatch.setattr(results, "as_run", as_run)
        assert collect([other], out) == 1
        return as_run(folder)

    monkeypatch.setattr(results, "as_run", interleaved)
    assert collect([run.folder], out) == 1
    assert [json.loads(line)["seed"] for line in out.read_text().splitlines()] == [77, 0]


@pytest.mark.parametrize("content", ["not json\n", "[1]\n", "7\n", '{"a": 1}\n{"b"\n', "\xff"])
def test_a_file_that_holds_something_else_is_left_alone(run: Run, tmp_path: Path, content: str) -> None:
    out = tmp_path / "all.jsonl"
    out.write_text(content, encoding="latin-1")
    flowvi.test(run, samples=2)
    with pytest.raises(RunError, match=r"all\.jsonl") as error:
        collect([run.folder], out)
    assert "\n" not in str(error.value)
    assert out.read_text(encoding="latin-1") == content


def test_nothing_to_gather(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    with pytest.raises(RunError, match="no result in"):
        collect([run.folder], out)
    with pytest.raises(RunError, match="no run in"):
        collect([tmp_path / "nowhere"], out)
    (run.folder / "result.json").write_text("{")
    with pytest.raises(RunError, match=r"result\.json does not hold"):
        collect([run.folder], out)
    assert not out.exists()
    (run.folder / "result.json").unlink()
    flowvi.test(run, samples=2)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FlowviError, match="cannot make the folder"):
        collect([run.folder], tmp_path / "file" / "all.jsonl")
