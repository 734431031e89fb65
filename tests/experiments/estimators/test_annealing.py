"""Tests by annealing: what they find, what they leave, and where they agree with what is known exactly."""

from __future__ import annotations

import json
import math
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flowvi
from flowvi.data import Dataset
from flowvi.errors import ConfigError
from flowvi.experiments.assembly import load_data
from flowvi.experiments.estimators import annealing
from flowvi.experiments.estimators.annealing import Prior, ais, bdmc
from flowvi.experiments.evaluate import on_file, result_path
from flowvi.experiments.results import collect
from flowvi.experiments.run import Run
from flowvi.flows import Planar
from flowvi.models import DLGM
from flowvi.reports.tables import result_table

Settings = dict[str, Any]
QUICK: Settings = {"distributions": 15, "chains": 4}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annealing, "COMPARED", 50)
    monkeypatch.setattr("flowvi.inference.evidence.ais.PILOT", (5, 9))
    monkeypatch.setattr("flowvi.inference.evidence.pilot.WARM", 8)


@pytest.fixture
def run(tiny: Settings, tmp_path: Path) -> Run:
    return flowvi.train("dlgm.nf10.mnist", out=tmp_path / "run", **tiny)


@pytest.fixture
def dataset(run: Run) -> Dataset:
    return load_data(run.config, torch.device("cpu"))


def constant(latents: list[int]) -> DLGM:
    """A model whose images do not depend on z: ln p(x) is known."""
    model = DLGM(features=16, latents=latents, flow=partial(Planar, length=2), maxout=(8, 4))
    with torch.no_grad():
        model.decoder.output.weight.zero_()
        model.decoder.output.bias.copy_(torch.linspace(-2, 2, 16))
    return model


def exact(x: torch.Tensor) -> torch.Tensor:
    logits = torch.linspace(-2, 2, 16).expand(x.shape)
    return -torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1).double()


@pytest.mark.parametrize("latents", [[2], [2, 3]])
def test_from_the_prior_the_exact_value_is_found(latents: list[int], dataset: Dataset) -> None:
    settings = {"distributions": 5, "chains": 3, "initial": "prior", "images": None}
    found = ais(constant(latents), dataset, settings, seed=0)
    truth = exact(dataset.test.batch(found.images["row"]))
    torch.testing.assert_close(found.images["log_evidence"], truth, rtol=0, atol=1e-4)
    assert found.figures["nll"] == pytest.approx(-truth.mean().item(), abs=1e-4)
    both = bdmc(constant(latents), dataset, {**settings, "images": 7}, seed=0).figures
    assert both["gap"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("latents", [[2], [2, 3]])
def test_from_the_posterior_it_is_near(latents: list[int], dataset: Dataset) -> None:
    settings = {"distributions": 30, "chains": 8, "initial": "posterior", "images": 20}
    model = constant(latents)
    found = ais(model, dataset, settings, seed=0)
    truth = exact(dataset.test.batch(found.images["row"]))
    assert (found.images["log_evidence"] - truth).mean().abs() < 0.1
    both = bdmc(model, dataset, settings, seed=0).figures
    assert abs(both["gap"]) < 0.2


def test_what_ais_leaves(run: Run) -> None:
    result = flowvi.test(run, estimator="ais", images=12, **QUICK)
    path = run.folder / "result-ais-15-chains4-images12.json"
    assert json.loads(path.read_text()) == result
    assert result_path(run.folder, estimator="ais", images=12, **QUICK) == path
    expected = {
        "estimator": "ais", "distributions": 15, "chains": 4, "initial": "posterior", "images": 12, "split": "test",
        "is_samples": 50, "lost": 0.0,
    }  # fmt: skip
    assert {key: result[key] for key in expected} == expected
    assert "samples" not in result
    with np.load(path.with_suffix(".npz")) as saved:
        images = dict(saved)
    excess = images["log_evidence"] - images["is_log_evidence"]
    assert result["is_excess"] == pytest.approx(excess.mean())
    assert result["is_excess_se"] == pytest.approx(excess.std(ddof=1) / math.sqrt(12))
    assert result["is_excess"] == pytest.approx(result["is_nll"] - result["nll"])
    assert result["kl"] == pytest.approx(result["free_energy"] - result["nll"])
    assert 1 <= result["effective_chains_min"] <= result["effective_chains"] <= 4
    assert 0 < result["acceptance"] <= 1
    assert result["nll"] == pytest.approx(flowvi.test(run, samples=500, images=12)["nll"], abs=0.5)
    flowvi.test(run, images=12, samples=2)
    with np.load(run.folder / "result-is-2-images12.npz") as saved:
        assert list(saved["row"]) == list(images["row"]), "the images of the other tests"


def test_by_default_ais_takes_all_of_few_images(run: Run) -> None:
    assert flowvi.test(run, estimator="ais", **QUICK)["images"] == 40


def test_what_bdmc_leaves(run: Run) -> None:
    result = flowvi.test(run, estimator="bdmc", images=60, **QUICK)
    assert (run.folder / "result-bdmc-15-chains4-images60.json").exists()
    assert (result["split"], result["simulation_seed"], result["images"]) == ("simulated", 0, 60)
    assert "nll" not in result and "free_energy" not in result, "never beside those of test images"
    assert result["gap"] == pytest.approx(result["log_evidence_upper"] - result["log_evidence_lower"])
    assert -3 * result["gap_se"] < result["gap"] < 2
    other = flowvi.test(run, estimator="bdmc", images=60, **{**QUICK, "distributions": 40})
    assert other["log_evidence_lower"] == pytest.approx(result["log_evidence_lower"], abs=0.5), "the same images"


@pytest.mark.parametrize("estimator", ["ais", "bdmc"])
def test_it_repeats_itself_and_leaves_the_random_state(run: Run, estimator: str) -> None:
    settings = {"estimator": estimator, "images": 5, **QUICK}
    torch.manual_seed(9)
    before = torch.get_rng_state()
    one = flowvi.test(run, **settings)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    two = flowvi.test(run, **settings)
    assert {**one, "test_seconds": 0} == {**two, "test_seconds": 0}


@pytest.mark.parametrize("estimator", ["ais", "bdmc"])
def test_memory_is_bounded(run: Run, dataset: Dataset, estimator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annealing, "PAIRS_AT_ONCE", 32)
    batches = []
    log_joint = DLGM.log_joint

    def counting(self: DLGM, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        if z.requires_grad:
            batches.append(z.shape[-2])
        return log_joint(self, x, z)

    monkeypatch.setattr(DLGM, "log_joint", counting)
    settings = {"distributions": 2, "chains": 4, "initial": "posterior", "images": 12}
    found = getattr(annealing, estimator)(flowvi.load(run), dataset, settings, seed=0)
    assert found.figures["images"] == 12
    assert set(batches) == {8, 4}


@pytest.mark.parametrize("estimator", ["ais", "bdmc"])
def test_one_image_has_no_standard_error(run: Run, estimator: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = flowvi.test(run, estimator=estimator, images=1, **QUICK)
    key = "nll" if estimator == "ais" else "gap"
    assert math.isnan(result[f"{key}_se"]) and math.isfinite(result[key])


@pytest.mark.parametrize("more", [{"model.latents": [2, 3]}, {"flow.kind": "iaf"}, {"precision": "bf16"}])
def test_other_models(tiny: Settings, tmp_path: Path, more: Settings) -> None:
    run = flowvi.train("dlgm.nf10.mnist", out=tmp_path / "run", **{**tiny, **more})
    for estimator in ("ais", "bdmc"):
        table = result_table(flowvi.test(run, estimator=estimator, images=5, **QUICK))
        assert "do not use" not in table


def test_what_was_tested_before(run: Run) -> None:
    settings = {"estimator": "ais", "images": 5, **QUICK}
    assert on_file(run, **settings) is None
    result = flowvi.test(run, **settings)
    assert on_file(run.folder, **settings) == result
    for other in ({"chains": 3}, {"initial": "prior"}, {"estimator": "bdmc"}, {"images": 6}):
        assert on_file(run, **{**settings, **other}) is None
    path = result_path(run.folder, **settings)
    for key, value in (("weights_sha256", "of others"), ("versions", "0"), ("nll", math.nan), ("chains", 5)):
        path.write_text(json.dumps({**result, key: value}))
        assert on_file(run, **settings) is None, key
    for text in ("{", "[1]"):
        path.write_text(text)
        assert on_file(run, **settings) is None
    path.write_text(json.dumps(result))
    path.with_suffix(".npz").unlink()
    assert on_file(run, **settings) is None
    with pytest.raises(ConfigError, match="no setting samples"):
        on_file(run, estimator="ais", samples=3)


def test_gathered_results_are_kept_apart(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    flowvi.test(run, samples=2, images=5)
    for more in ({}, {"initial": "prior"}, {"estimator": "bdmc"}):
        flowvi.test(run, **{"estimator": "ais", "images": 5, **QUICK, **more})
    assert collect([run.folder], out) == 4
    assert collect([run.folder], out) == 4
    assert len(out.read_text().splitlines()) == 4


def test_a_prior_for_each_image() -> None:
    prior = Prior(constant([2, 3]), 4)
    z = prior.sample((6,))
    assert z.shape == (6, 4, 5) and prior.log_prob(z).shape == (6, 4)
    assert len(z.unique()) == z.numel()
