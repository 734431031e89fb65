"""Checkpoints and weights: read back as they were, refused when damaged, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import flowvi
from flowvi.errors import CheckpointError
from flowvi.experiments import checkpoints
from flowvi.experiments.checkpoints import read_checkpoint, read_weights, write_checkpoint

STATE = {"update": 3, "model": {"w": torch.arange(200.0)}, "best": None, "random": torch.get_rng_state()}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("good") / "last.pt"
    write_checkpoint(file, STATE)
    return file


def test_a_checkpoint_reads_back(good: Path) -> None:
    state = read_checkpoint(good)
    assert state["update"] == 3
    assert torch.equal(state["model"]["w"], STATE["model"]["w"])


@settings(max_examples=60, deadline=None, database=None)
@given(how=st.sampled_from(["cut", "flip", "zero", "random", "longer"]), seed=st.integers(0, 2**32))
def test_any_damage_is_seen(good: Path, tmp_path_factory: pytest.TempPathFactory, how: str, seed: int) -> None:
    content, draw = bytearray(good.read_bytes()), random.Random(seed)
    place = draw.randrange(len(content) - 100)
    if how == "cut":
        content = content[:place]
    elif how == "flip":
        content[place] ^= 1 << draw.randrange(8)
    elif how == "zero":
        content[place : place + 100] = bytes(99) + b"\1"
    elif how == "random":
        content = bytearray(draw.randbytes(place))
    else:
        content += draw.randbytes(1 + place)
    file = tmp_path_factory.getbasetemp() / "damaged.pt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged\.pt is damaged") as error:
        read_checkpoint(file)
    assert "\n" not in str(error.value)


def test_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "FORMAT", 999)
    write_checkpoint(tmp_path / "last.pt", STATE)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="another version of flowvi"):
        read_checkpoint(tmp_path / "last.pt")


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "last.pt", {"update": Trap()})  # the right checksum, and a pickle that acts
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "last.pt")
    for content in (pickle.dumps(Trap()), pickle.dumps({"w": Trap()})):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged"):
            read_weights(tmp_path / "model.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_missing_files_are_named(tmp_path: Path) -> None:
    for read in (read_checkpoint, read_weights):
        with pytest.raises(CheckpointError, match="No such file"):
            read(tmp_path / "gone")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    overrides = {
        "data.path": str(data),
        "device": "cpu",
        "flow.length": 2,
        "model.latents": [2],
        "model.maxout": "8-4",
        "training.updates": 20,
    }
    return flowvi.train("dlgm.nf10.mnist", out=tmp_path_factory.mktemp("trained"), **overrides).folder


def published(trained: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(trained / name, folder)
    return folder


def test_two_files_are_a_model(trained: Path, tmp_path: Path, data: Path) -> None:
    folder = published(trained, tmp_path / "published")
    model = flowvi.load(folder)
    assert not model.training
    x = torch.ones(3, 16)
    assert model.posterior(x).sample().shape == (3, 2)
    assert model.sample(5).shape == (5, 16)
    assert model.log_joint(x, torch.zeros(7, 3, 2)).shape == (7, 3)
    assert flowvi.test(folder, samples=3)["train_seconds"] is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no weights"),
        (b"", "damaged"),
        (b"\x08" + bytes(30), "damaged"),
        (b"not weights at all", "damaged"),
    ],
)
def test_missing_and_damaged_weights(trained: Path, tmp_path: Path, content: bytes | None, says: str) -> None:
    folder = published(trained, tmp_path / "published")
    weights = folder / "model.safetensors"
    weights.unlink()
    if content is not None:
        weights.write_bytes(content)
    for use in (flowvi.load, flowvi.test):
        with pytest.raises(CheckpointError, match=says) as error:
            use(folder)
        assert "\n" not in str(error.value)


def test_truncated_weights(trained: Path, tmp_path: Path) -> None:
    folder = published(trained, tmp_path / "published")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="damaged"):
        flowvi.load(folder)


def test_weights_of_another_model(trained: Path, tmp_path: Path) -> None:
    folder = published(trained, tmp_path / "published")
    weights = folder / "model.safetensors"
    state = load_file(weights)
    save_file({**state, "features": torch.tensor(17)}, weights)
    with pytest.raises(CheckpointError, match=r"another model than config\.json names") as error:
        flowvi.load(folder)
    assert "\n" not in str(error.value)
    state.pop("features")
    save_file(state, weights)
    with pytest.raises(CheckpointError, match="not hold the weights of a flowvi model"):
        flowvi.load(folder)
