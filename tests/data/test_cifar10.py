"""CIFAR-10's archive and files: what they hold, that they are verified, and what is said where they cannot be had."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from flowvi.data import cifar10, load
from flowvi.errors import DataError

NAMES = ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"]


@pytest.fixture(scope="module")
def records() -> np.ndarray:
    """Two records of each of the five batches and of the test batch: a label, then the bytes of three planes."""
    return np.random.RandomState(0).randint(0, 256, (6, 2, 3073)).astype(np.uint8)


@pytest.fixture
def archive(records: np.ndarray, tmp_path: Path) -> Path:
    """An archive of the published one's form."""
    file = tmp_path / "site" / "cifar-10-binary.tar.gz"
    file.parent.mkdir()
    with tarfile.open(file, "w:gz") as members:
        for name, rows in reversed(list(zip([*NAMES, "test_batch.bin"], records, strict=True))):
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = rows.nbytes
            members.addfile(entry, io.BytesIO(rows.tobytes()))
    return file


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def site(archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A server of this machine in place of the university's; gives the cache folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=archive.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("FLOWVI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(cifar10, "URL", f"http://127.0.0.1:{server.server_port}/{archive.name}")
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    yield tmp_path / "cache"
    server.shutdown()
    server.server_close()


def test_the_archive_is_downloaded_once_and_read(
    site: Path, records: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = cifar10.read()
    assert source.name == "cifar10" and source.features == 3072 and source.patch == 8
    assert np.array_equal(source.arrays["train"], records[:5, :, 1:].reshape(10, 3072))
    assert np.array_equal(source.arrays["test"], records[5, :, 1:])
    assert [file.name for file in site.iterdir()] == ["cifar-10-binary.tar.gz"]
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/cifar-10-binary.tar.gz")  # nobody is there
    assert len(cifar10.read().arrays["train"]) == 10


def test_the_archive_is_verified(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar10.read()
    (site / "cifar-10-binary.tar.gz").write_bytes(b"damaged")
    assert len(cifar10.read().arrays["test"]) == 2  # had again
    monkeypatch.setattr(cifar10, "MD5", "0" * 32)
    with pytest.raises(DataError, match=r"cannot be had from http.*hash.*data.path=FILE.npz"):
        cifar10.read()


def test_offline_the_error_says_what_to_do(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/cifar-10-binary.tar.gz")
    with pytest.raises(DataError) as caught:
        load("cifar10")
    (line,) = str(caught.value).splitlines()
    assert line.endswith(
        f"put that archive into {site} as cifar-10-binary.tar.gz, or give data.path=FILE.npz, a file with uint8 arrays "
        "train and test, each (N, 3, 32, 32)"
    )


def test_the_published_archive() -> None:
    assert cifar10.URL == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert cifar10.MD5 == "c32a1d4ab5d03f1284b67883e8d87530"


def test_an_archive_of_something_else(site: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(archive, "w:gz"):
        pass
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    with pytest.raises(DataError, match=r"does not hold CIFAR-10's binary batches"):
        cifar10.read()


def test_a_file_is_a_subset(tmp_path: Path) -> None:
    images = np.random.RandomState(1).randint(0, 256, (1200, 3, 32, 32)).astype(np.uint8)
    file = tmp_path / "some.npz"
    np.savez(file, train=images[:1100], test=images[1100:])
    source = cifar10.read(file)
    assert source.subset == "1,100 of 50,000 training and 100 of 10,000 test images"
    assert np.array_equal(source.arrays["test"], images[1100:].reshape(100, 3072))
    assert load("cifar10", path=file, validation=10).subset == source.subset


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"train": np.zeros((2, 3, 32, 32))}, "holds the array train alone: CIFAR-10 takes uint8 arrays"),
        ({"train": np.zeros((2, 3072)), "test": np.zeros((2, 3072))}, r"array 'train' is float64 of the shape \(2, "),
        (
            {"train": np.zeros((2, 3, 32, 32), np.uint8), "test": np.zeros((2, 32, 32, 3), np.uint8)},
            r"array 'test' is uint8 of the shape \(2, 32, 32, 3\): CIFAR-10 takes",
        ),
        (
            {"train": np.zeros((2, 3, 32, 32), np.uint8), "test": np.zeros((0, 3, 32, 32), np.uint8)},
            r"array 'test' is uint8 of the shape \(0, 3, 32, 32\)",
        ),
    ],
)
def test_files_that_are_refused(arrays: dict[str, np.ndarray], problem: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(DataError, match=problem):
        cifar10.read(tmp_path / "some.npz")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist"):
        cifar10.read(tmp_path / "some.npz")
