"""Batches on the device: exact Bernoulli sampling of grey levels, and nothing drawn for binary data."""

from __future__ import annotations

import pytest
import torch

from flowvi.data import Images, Levels

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("levels", ["bytes", "unit"])
def test_frequencies_match_the_grey_levels(levels: Levels, device: str) -> None:
    bytes_ = torch.arange(256, dtype=torch.uint8)
    pixels = bytes_ if levels == "bytes" else bytes_ / 255
    images = Images(pixels.expand(10, -1).contiguous().to(device), levels)
    draws = 10_000
    rows = torch.arange(10).repeat(draws // 10)
    batch = images.batch(rows, torch.Generator(device).manual_seed(1))
    assert batch.shape == (draws, 256) and batch.dtype == torch.float32 and batch.device.type == device
    assert set(batch.unique().tolist()) == {0.0, 1.0}
    p = bytes_.double() / 255
    frequency = batch.double().mean(0).cpu()
    assert frequency[0] == 0 and frequency[255] == 1
    z = (frequency - p)[1:255] / (p * (1 - p) / draws).sqrt()[1:255]
    assert z.abs().max() < 4.5
    assert 0.8 < z.square().mean() < 1.25  # neither too wide nor too narrow


@pytest.mark.parametrize("device", DEVICES)
def test_binary_rows_come_as_they_are(device: str) -> None:
    pixels = torch.tensor([[0, 1], [1, 1], [1, 0]], dtype=torch.uint8, device=device)
    generator = torch.Generator(device).manual_seed(0)
    state = generator.get_state()
    batch = Images(pixels).batch(torch.tensor([2, 0, 2]), generator)
    assert batch.tolist() == [[1, 0], [0, 1], [1, 0]] and batch.dtype == torch.float32
    assert torch.equal(generator.get_state(), state)


def test_the_global_generator_by_default() -> None:
    images = Images(torch.full((4, 50), 100, dtype=torch.uint8), "bytes")
    torch.manual_seed(3)
    first = images.batch(torch.arange(4))
    torch.manual_seed(3)
    assert torch.equal(first, images.batch(torch.arange(4)))
    assert not torch.equal(first, images.batch(torch.arange(4)))


@pytest.mark.parametrize("levels", ["binary", "bytes", "unit"])
def test_a_batch_leaves_the_images_alone(levels: Levels) -> None:
    pixels = torch.full((4, 50), 0.5) if levels == "unit" else torch.ones(4, 50, dtype=torch.uint8)
    images = Images(pixels.clone(), levels)
    images.batch(torch.arange(4))
    assert len(images) == 4 and torch.equal(images.pixels, pixels)
