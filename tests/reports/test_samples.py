"""The figure of a trained run: the same for the same seed, refused in one line where it cannot be drawn."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from flowvi.errors import CheckpointError, ConfigError, DataError, RunError
from flowvi.experiments.train import train
from flowvi.reports.samples import draw


def tiny_run(folder: Path, features: int = 16, images: int = 200, **settings: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 2, (images, features)).astype(np.uint8)
    np.savez(folder / "mine.npz", images=pixels)
    small = {
        "data.path": str(folder / "mine.npz"),
        "flow.length": 2,
        "model.latents": [2],
        "model.maxout": "8-4",
        "training.batch": 10,
        "training.updates": 3,
    }
    return train("dlgm.nf10.mnist", seed=7, out=folder / "run", **{**small, **settings}).folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("samples"))


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_run_and_seed_give_the_same_picture(run: Path, tmp_path: Path, suffix: str) -> None:
    first, again, other = (tmp_path / f"{name}.{suffix}" for name in "abc")
    before = torch.get_rng_state()
    assert draw(run, first) == first
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    draw(run, again)
    draw(run, other, seed=1)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, again, other]


def test_it_is_a_picture_as_wide_as_a_readme_with_white_edges(run: Path, tmp_path: Path) -> None:
    picture = imread(draw(run, tmp_path / "new" / "a.PNG"))[..., :3]
    assert 1500 <= picture.shape[1] <= 1800
    for edge in (picture[:10], picture[-10:], picture[:, :10], picture[:, -10:]):
        assert (edge == 1).all()
    assert picture.min() < 0.2


def test_the_svg_is_one(run: Path, tmp_path: Path) -> None:
    root = ElementTree.parse(draw(run, tmp_path / "a.svg")).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//{http://www.w3.org/2000/svg}image")) == 3


def test_few_images_make_a_short_row_of_the_same_size(run: Path, tmp_path: Path) -> None:
    few = draw(tiny_run(tmp_path, images=50), tmp_path / "few.png")
    many = draw(run, tmp_path / "many.png")
    assert imread(few).shape == imread(many).shape


def test_several_layers(tmp_path: Path) -> None:
    assert draw(tiny_run(tmp_path, **{"model.latents": [3, 2]}), tmp_path / "a.png").stat().st_size > 1000


def test_features_that_are_no_square(tmp_path: Path) -> None:
    folder = tiny_run(tmp_path, features=15)
    with pytest.raises(DataError, match="15 features are not the pixels of a square"):
        draw(folder, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("name", ["a.gif", "a", ".png"])
def test_a_suffix_that_is_not_drawn(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"has to end in \.png or \.svg"):
        draw(run, tmp_path / name)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run in"):
        draw(tmp_path, tmp_path / "a.png")


def test_no_weights(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "config.json", tmp_path)
    with pytest.raises(CheckpointError, match="no weights at"):
        draw(tmp_path, tmp_path / "a.png")


def test_a_file_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for out in (tmp_path / "file" / "a.png", tmp_path / "file" / "b" / "a.png", tmp_path / "folder.png"):
        with pytest.raises(RunError, match="cannot") as caught:
            draw(run, out)
        assert "\n" not in str(caught.value)
