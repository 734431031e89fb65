"""What can be done with a fit: resampled draws, a tree for ArviZ, a folder that gives it back."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import flowvi
from flowvi import supports as s
from flowvi.errors import CheckpointError, ConfigError, DensityError, RunError
from flowvi.inference.fitting import EFFORTS, Fit
from flowvi.inference.fitting.draws import draw

SUPPORTS = {"mu": s.real(), "tau": s.positive(2), "rho": s.interval(-1, 1)}


def log_density(p: dict[str, Tensor]) -> Tensor:
    """N(0, 1), two Gamma(2, 1), uniform: ln Z = ½ ln 2π + ln 2."""
    return -p["mu"].square() / 2 + (p["tau"].log() - p["tau"]).sum(-1)


@pytest.fixture(scope="module", autouse=True)
def brief() -> Iterator[None]:
    """An effort that is over at once: what is tested here does not depend on how good the posterior is."""
    sizes = {"block": 5, "blocks": 2, "races": 2, "draws": 200, "chains": 8, "distributions": 5}
    tiny = replace(EFFORTS["fast"], restarts=2, evidence=2000, **sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowvi.inference.fitting.entry.EFFORTS", MappingProxyType({"default": tiny}))
        yield


@pytest.fixture(scope="module")
def found(brief: None) -> Fit:
    return flowvi.fit(log_density, SUPPORTS, seed=0)


# --- draws --------------------------------------------------------------------------------------------------


def test_densities_are_in_the_parameters_own_coordinates(found: Fit) -> None:
    drawn = draw(found, 20_100)
    assert drawn.log_p is not None
    assert torch.allclose(drawn.log_p, log_density(drawn.values))
    assert torch.allclose(drawn.log_q, found.posterior.log_prob(drawn.values), atol=1e-3)
    log_z = drawn.log_weights.logsumexp(0).item() - math.log(20_100)
    assert log_z == pytest.approx(math.log(2 * math.pi) / 2 + math.log(2), abs=0.1)


def test_resampled_draws_are_nearer_to_the_target(found: Fit) -> None:
    points = found.counts.points
    resampled = found.resample(20_000)
    assert {name: tuple(value.shape) for name, value in resampled.items()} == {
        "mu": (20_000,), "tau": (20_000, 2), "rho": (20_000,),
    }  # fmt: skip
    assert resampled["mu"].var().item() == pytest.approx(1, abs=0.1)
    assert resampled["tau"].mean().item() == pytest.approx(2, abs=0.1)
    assert resampled["rho"].var().item() == pytest.approx(1 / 3, abs=0.03)
    assert found.counts.points == points  # those of the search alone


def test_draws_repeat_with_the_global_generator(found: Fit) -> None:
    torch.manual_seed(5)
    one = found.resample(10)["tau"]
    torch.manual_seed(5)
    assert torch.equal(one, found.resample(10)["tau"])


@pytest.mark.parametrize("n", [0, -1, 2.5, True])
def test_a_number_of_draws(found: Fit, n: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected a whole number of draws of at least 1$"):
        found.resample(n)
    with pytest.raises(ConfigError, match=r"expected a whole number of draws of at least 1$"):
        draw(found, n)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_weights(found: Fit, value: float) -> None:
    assert found.density
    broken = replace(found, density=type(found.density)(lambda p: log_density(p) * 0 + value, found.joint))
    with pytest.raises(DensityError, match=r"the log density is .* at .* draws: no weights$"):
        broken.resample(10)


# --- ArviZ --------------------------------------------------------------------------------------------------


def test_a_tree(found: Fit) -> None:
    pytest.importorskip("xarray", reason="the extra `fit` brings xarray")
    tree = found.to_arviz(200)
    assert dict(tree["posterior"].sizes) == {"chain": 1, "draw": 200, "tau_dim_0": 2}
    assert tree["posterior"]["tau"].dims == ("chain", "draw", "tau_dim_0")
    stats = {name: tree["sample_stats"][name].values[0] for name in tree["sample_stats"].data_vars}
    assert set(stats) == {"log_q", "log_p", "log_weights", "psis_log_weights"}
    np.testing.assert_allclose(stats["log_weights"], stats["log_p"] - stats["log_q"])
    assert np.exp(stats["psis_log_weights"]).sum() == pytest.approx(1)
    body, tail = np.argsort(stats["log_weights"])[:150], stats["log_weights"].argmax()
    moved = stats["psis_log_weights"] - stats["log_weights"]
    assert np.ptp(moved[body]) < 1e-9 and moved[tail] < moved[body[0]] + 1  # only the tail is smoothed
    attributes = tree["posterior"].attrs
    assert attributes["log_evidence"] == found.log_evidence and attributes["inference_library"] == "flowvi"
    assert all(isinstance(each, str | int | float) for each in attributes.values())


def test_a_plain_vector_in_a_tree() -> None:
    pytest.importorskip("xarray", reason="the extra `fit` brings xarray")
    plain = flowvi.fit(lambda z: -z.square().sum(-1) / 2, 3)
    assert plain.to_arviz(20)["posterior"]["z"].shape == (1, 20, 3)


def test_a_tree_without_xarray(found: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ConfigError, match=r"^to_arviz needs the package xarray: pip install 'flowvi\[fit\]'$"):
        found.to_arviz(10)


# --- files --------------------------------------------------------------------------------------------------


def test_what_comes_back_is_the_same(found: Fit, tmp_path: Path) -> None:
    found.save(tmp_path / "a")
    again = flowvi.load(tmp_path / "a")
    assert str(again) == str(found) and repr(again) == repr(found)
    torch.manual_seed(1)
    one = found.sample(5)
    torch.manual_seed(1)
    two = again.sample(5)
    assert all(torch.equal(one[name], two[name]) for name in SUPPORTS)
    assert torch.equal(again.posterior.log_prob(one), found.posterior.log_prob(one))
    assert again.joint == found.joint and again.effort == found.effort and again.counts == found.counts
    assert [each.trace for each in again.stages] == [each.trace for each in found.stages]
    assert torch.equal(again.restarts[1].quantiles["tau"], found.restarts[1].quantiles["tau"])
    assert not any(each.requires_grad for each in again.stage.module.parameters())
    with pytest.raises(DensityError, match="loaded from a file, which holds no log density"):
        again.resample(5)


def test_the_files_hold_numbers_and_words_alone(found: Fit, tmp_path: Path) -> None:
    weighed = replace(found.measured.weighed, log_evidence=math.nan, log_evidence_se=math.inf)
    odd = replace(found, measured=replace(found.measured, weighed=weighed))
    odd.save(tmp_path / "a")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    config = json.loads((tmp_path / "a" / "config.json").read_text(), parse_constant=refuse)
    assert config["kind"] == "fit"
    assert sorted(each.name for each in (tmp_path / "a").iterdir()) == ["config.json", "model.safetensors"]
    again = flowvi.load(tmp_path / "a")
    assert math.isnan(again.log_evidence) and again.log_evidence_se == math.inf
    found.save(tmp_path / "a")  # a fit is replaced
    assert flowvi.load(tmp_path / "a").log_evidence == found.log_evidence


def test_other_flows(tmp_path: Path) -> None:
    built = flowvi.flows.build("realnvp", features=2, length=2, hidden=[4])
    of_build = flowvi.fit(lambda z: -z.square().sum(-1) / 2, 2, flow=built, dtype=torch.float64)
    of_build.save(tmp_path / "a")
    again = flowvi.load(tmp_path / "a")
    module = again.stages[-1].module
    assert type(module.flow) is flowvi.flows.RealNVP and module.mean.dtype == torch.float64
    own = flowvi.fit(lambda z: -z.square().sum(-1) / 2, 2, flow=flowvi.flows.Planar(2, length=2))
    with pytest.raises(ConfigError, match=r"this fit's flow is a Planar of your own.* or with a module from flowvi"):
        own.save(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_folders_that_are_refused(found: Fit, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    with pytest.raises(RunError, match="holds other files than a fit's: choose a new or empty folder"):
        found.save(tmp_path / "taken")
    with pytest.raises(RunError, match="is a file: a fit is saved as a folder"):
        found.save(tmp_path / "taken" / "thesis.tex")
    with pytest.raises(RunError, match="no run in"):
        flowvi.load(tmp_path / "nowhere")


def test_damage(found: Fit, tmp_path: Path) -> None:
    found.save(tmp_path / "a")
    config, weights = tmp_path / "a" / "config.json", tmp_path / "a" / "model.safetensors"
    whole, text = weights.read_bytes(), config.read_text()
    weights.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="is damaged, or not of the same fit"):
        flowvi.load(tmp_path / "a")
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*safetensors: No such file"):
        flowvi.load(tmp_path / "a")
    weights.write_bytes(whole)
    for old, new in [('"planar"', '"plnar"'), ('"$Stage"', '"$Popen"'), ('"winner"', '"winer"'), ('"real"', '"eval"')]:
        config.write_text(text.replace(old, new, 1))
        with pytest.raises(CheckpointError, match="does not describe a fit of this version of flowvi"):
            flowvi.load(tmp_path / "a")
    config.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(CheckpointError, match="another version of flowvi wrote it"):
        flowvi.load(tmp_path / "a")


def test_a_mixture_and_a_flow_over_it_come_back(brief: None, tmp_path: Path) -> None:
    def two(z: Tensor) -> Tensor:
        return torch.logaddexp(-(z - 4).square().sum(-1), -(z + 4).square().sum(-1))

    found = flowvi.fit(two, 2, seed=0)
    assert [stage.name for stage in found.stages][-2:] == ["mixture", "flow"]
    found.save(tmp_path / "two")
    again = flowvi.load(tmp_path / "two")
    assert str(again) == str(found) and again.verdict == found.verdict
    z = torch.randn(5, 2)
    for one, other in zip(found.stages, again.stages, strict=True):
        assert torch.equal(one.module().log_prob(z), other.module().log_prob(z))
    assert (found.resample(1000)[:, 0] > 0).double().mean().item() == pytest.approx(0.5, abs=0.1)
