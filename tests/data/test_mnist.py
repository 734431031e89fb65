"""The shipped MNIST: checksums, splits, and samples that may never drift."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tracemalloc
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from flowvi.data import Dataset, load
from flowvi.data.mnist import CHECKSUMS, read
from flowvi.errors import DataError

FOLDER = Path(str(files("flowvi.data.mnist")))
MD5 = {
    "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
}
# SHA-256 of the bit-packed images of seed 2015: results are comparable only while these stand.
PINNED = {
    "train": "f68869e0fc13aba5a4ed0ca6a5b162038d0521b1eb99154a88aa76b3604690d1",
    "valid": "aa975024c5ceddf916b31af7b860560aa2ee10dac0fe091b997a1133d1ebbed4",
    "test": "83bb045ea059f5e586346c5d16b50d4b2419b138604cd2cabeb1d5c8dd63a100",
}
PINNED_60000 = "abb1dd8d9a268accff63ce4c52d98e00d19ade5cc4c4e94173bcc80f9bc54743"


def digest(pixels: torch.Tensor) -> str:
    return hashlib.sha256(np.packbits(pixels.numpy(), axis=1).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def fixed() -> Dataset:
    return load()


@pytest.fixture(scope="module")
def dynamic() -> Dataset:
    return load(binarisation="dynamic")


@pytest.mark.parametrize("name", CHECKSUMS)
def test_files_are_the_originals(name: str) -> None:
    packed = (FOLDER / name).read_bytes()
    assert hashlib.sha256(packed).hexdigest() == CHECKSUMS[name]
    assert hashlib.md5(gzip.decompress(packed)).hexdigest() == MD5[name]
    source = (FOLDER / "SOURCE.md").read_text(encoding="utf-8")
    assert CHECKSUMS[name] in source and MD5[name] in source
    assert "creativecommons.org/licenses/by-sa/3.0" in (FOLDER / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CHECKSUMS)
def test_damaged_or_missing_file(name: str, tmp_path: Path) -> None:
    for other in CHECKSUMS:
        shutil.copy(FOLDER / other, tmp_path / other)
    packed = bytearray((tmp_path / name).read_bytes())
    packed[len(packed) // 2] ^= 1
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(DataError, match=rf"{name} is damaged \(SHA-256 .*install flowvi again$"):
        read(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=rf"{name} cannot be read .*install flowvi again$"):
        read(tmp_path)


def test_fixed(fixed: Dataset) -> None:
    assert fixed.valid is not None
    assert (len(fixed.train), len(fixed.valid), len(fixed.test)) == (50_000, 10_000, 10_000)
    assert (fixed.name, fixed.binarisation, fixed.seed) == ("mnist", "fixed", 2015)
    assert (fixed.features, fixed.image_shape) == (784, (28, 28))
    for images in (fixed.train, fixed.valid, fixed.test):
        assert images.levels == "binary" and images.pixels.dtype == torch.uint8 and images.pixels.max() == 1
    assert fixed.mean.dtype == torch.float32
    ones = fixed.train.pixels.sum(0, dtype=torch.int64)
    torch.testing.assert_close(fixed.mean, (ones / 50_000).float())


def test_sample_never_drifts(fixed: Dataset) -> None:
    assert fixed.valid is not None
    found = {"train": digest(fixed.train.pixels), "valid": digest(fixed.valid.pixels)}
    assert {**found, "test": digest(fixed.test.pixels)} == PINNED


def test_without_validation(fixed: Dataset) -> None:
    whole = load(validation=0)
    assert whole.valid is None and len(whole.train) == 60_000
    assert digest(whole.train.pixels) == PINNED_60000
    assert torch.equal(whole.test.pixels, fixed.test.pixels)
    # The split parts the very same 60,000 binary images: the same rows, once each.
    assert fixed.valid is not None
    parts = np.packbits(torch.cat([fixed.train.pixels, fixed.valid.pixels]).numpy(), axis=1)
    assert sorted(map(bytes, parts)) == sorted(map(bytes, np.packbits(whole.train.pixels.numpy(), axis=1)))
    assert not torch.equal(fixed.valid.pixels, whole.train.pixels[:10_000])
    assert not torch.equal(fixed.valid.pixels, whole.train.pixels[-10_000:])


def test_sample_follows_the_grey_levels(fixed: Dataset) -> None:
    grey = read().arrays["test"].astype(np.float64) / 255
    bits = fixed.test.pixels.numpy()
    spread = np.sqrt((grey * (1 - grey)).sum())
    assert abs(bits.sum() - grey.sum()) < 4 * spread
    assert not bits[grey == 0].any() and bits[grey == 1].all()


def test_another_seed_is_another_sample(fixed: Dataset) -> None:
    other = load(seed=2016)
    assert other.valid is not None and fixed.valid is not None
    assert not torch.equal(other.test.pixels, fixed.test.pixels)
    assert not torch.equal(other.valid.pixels, fixed.valid.pixels)


def test_dynamic(dynamic: Dataset, fixed: Dataset) -> None:
    assert dynamic.binarisation == "dynamic"
    assert dynamic.train.levels == "bytes" and dynamic.train.pixels.dtype == torch.uint8
    assert dynamic.train.pixels.max() == 255
    assert dynamic.valid is not None and fixed.valid is not None
    assert torch.equal(dynamic.test.pixels, fixed.test.pixels)
    assert torch.equal(dynamic.valid.pixels, fixed.valid.pixels)
    total = dynamic.train.pixels.sum(0, dtype=torch.int64)
    torch.testing.assert_close(dynamic.mean, (total / 50_000 / 255).float())


def test_dynamic_samples_are_fresh(dynamic: Dataset) -> None:
    rows = torch.arange(100)
    generator = torch.Generator().manual_seed(0)
    first, second = (dynamic.train.batch(rows, generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, dynamic.train.batch(rows, torch.Generator().manual_seed(0)))


def test_threshold() -> None:
    data = load(binarisation="threshold", validation=0)
    source = read()
    assert data.binarisation == "threshold"
    for images, key in ((data.train, "train"), (data.test, "test")):
        assert images.levels == "binary"
        assert np.array_equal(images.pixels.numpy(), source.arrays[key] > 127)  # 127/255 < 1/2 < 128/255


def test_memory_is_bounded() -> None:
    tracemalloc.start()
    try:
        load()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6
