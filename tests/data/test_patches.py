"""Patches: where they lie, how their bytes become continuous, and what stays the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flowvi.data import Images, Patches, load
from flowvi.data.patches import SQUEEZE, crop, dequantise
from flowvi.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = np.random.RandomState(0).randint(0, 256, (90, 3, 32, 32)).astype(np.uint8)
    images[:, 0] //= 4  # a dark plane, so that the planes' means differ
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, train=images[:60], test=images[60:])
    return path


def unsqueezed(x: torch.Tensor) -> torch.Tensor:
    """v + u of dequantised values."""
    return (x.double() - SQUEEZE) / (1 - 2 * SQUEEZE) * 256


def test_crop() -> None:
    images = torch.arange(2 * 3 * 9 * 11).view(2, 3, 9, 11)
    found = crop(images, torch.tensor([0, 5]), torch.tensor([7, 2]), 4)
    assert torch.equal(found[0].view(3, 4, 4), images[0, :, 0:4, 7:11])
    assert torch.equal(found[1].view(3, 4, 4), images[1, :, 5:9, 2:6])


def test_dequantised_values_are_uniform_within_their_step_and_inside_the_squeezed_interval() -> None:
    bytes_ = torch.arange(256, dtype=torch.uint8).repeat(400)
    x = dequantise(bytes_, torch.rand(bytes_.shape))
    assert x.dtype == torch.float32 and x.min() > SQUEEZE * 0.99 and x.max() < 1 - SQUEEZE * 0.99
    rest = unsqueezed(x) - bytes_
    assert rest.min() > -1e-4 and rest.max() < 1 + 1e-4
    assert abs(rest.mean() - 0.5) < 0.005 and abs(rest.var() - 1 / 12) < 0.001
    ends = dequantise(torch.tensor([0, 255]), torch.tensor([0.0, 1 - 2**-24]))
    torch.testing.assert_close(ends, torch.tensor([SQUEEZE, 1 - SQUEEZE]))


def test_a_batch_takes_a_patch_anywhere_of_each_image() -> None:
    """Pixels number their own places, so that a patch says where it lies."""
    places = torch.arange(10 * 12, dtype=torch.uint8).view(1, 1, 10, 12)
    images = Patches(places.expand(3, 3, -1, -1).contiguous(), side=8)
    x = unsqueezed(images.batch(torch.arange(3).repeat(2000))).view(-1, 3, 8, 8)
    steps = torch.arange(8)[:, None] * 12 + torch.arange(8)
    first = (x - steps - 0.5).mean((1, 2, 3)).round()  # of noise in [0, 1) the mean is about ½
    assert (x - steps - 0.5 - first[:, None, None, None]).abs().max() < 0.501
    counts = torch.bincount(first.long(), minlength=120).view(10, 12)
    assert counts[3:].sum() == 0 and counts[:, 5:].sum() == 0
    assert (counts[:3, :5] - 400).abs().max() < 4.5 * 400**0.5


def test_a_batch_is_its_generators_and_fresh_each_time() -> None:
    images = Patches(torch.randint(256, (5, 3, 32, 32)).to(torch.uint8), side=8)
    rows = torch.tensor([4, 0])
    one, two, other = (images.batch(rows, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    torch.manual_seed(3)
    first = images.batch(rows)
    assert not torch.equal(first, images.batch(rows)) and first.shape == (2, 192) and first.dtype == torch.float32
    torch.manual_seed(3)
    assert torch.equal(first, images.batch(rows))


def test_a_data_set(file: Path) -> None:
    dataset = load("cifar10", path=file, validation=10)
    assert isinstance(dataset.train, Patches) and isinstance(dataset.test, Images) and dataset.valid is not None
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (50, 10, 30)
    assert (dataset.name, dataset.binarisation, dataset.features) == ("cifar10", "none", 192)
    assert (dataset.channels, dataset.image_shape) == (3, (8, 8))
    assert dataset.test.batch(torch.arange(30)).equal(dataset.test.pixels)
    planes = dataset.train.pixels.double().mean((0, 2, 3)) / 256
    torch.testing.assert_close(dataset.mean.view(3, 64).mean(1).double(), planes, rtol=0, atol=0.003)
    assert dataset.mean.dtype == torch.float32 and dataset.mean[0] < 0.2 < dataset.mean[64]


def test_held_out_images_are_the_others_and_none_is_lost(file: Path) -> None:
    dataset = load("cifar10", path=file, validation=10)
    everything = load("cifar10", path=file, validation=0)
    assert isinstance(dataset.train, Patches) and isinstance(everything.train, Patches) and everything.valid is None
    kept, whole = ({row.tobytes() for row in each.train.pixels.numpy()} for each in (dataset, everything))
    assert kept < whole and len(whole) == 60 and len(kept) == 50


def test_test_and_validation_patches_are_fixed_by_the_data_seed(file: Path) -> None:
    one, two, other = (load("cifar10", path=file, validation=10, seed=seed) for seed in (1, 1, 2))
    assert one.valid is not None and two.valid is not None and other.valid is not None
    assert torch.equal(one.test.pixels, two.test.pixels) and torch.equal(one.valid.pixels, two.valid.pixels)
    assert not torch.equal(one.test.pixels, other.test.pixels)
    assert torch.equal(one.test.pixels, load("cifar10", path=file, validation=20, seed=1).test.pixels)
    assert one.test.pixels.min() >= SQUEEZE and one.test.pixels.max() <= 1 - SQUEEZE


def test_test_patches_are_pinned(file: Path) -> None:
    """Results are comparable only while these stand."""
    pixels = load("cifar10", path=file, validation=0).test.pixels
    assert unsqueezed(pixels[:3, [0, 63, 64, 191]]).floor().tolist() == PINNED


PINNED = [[55, 47, 78, 22], [36, 17, 68, 245], [1, 62, 219, 156]]


def test_refusals(file: Path) -> None:
    with pytest.raises(DataError, match=r"cifar10: data.validation=31 cannot be held out of 60 training images"):
        load("cifar10", path=file, validation=31)
    with pytest.raises(ConfigError, match=r"data.packed=192 is of a file of your own: leave it out with data.name=cif"):
        load("cifar10", path=file, packed=192)
    with pytest.raises(DataError, match=r"has the shape .* allowed is"):
        load("mnist", path=file)  # a user's own file, in place of the data set
