"""A user's own arrays: what is accepted, and one clear line for everything that is not."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowvi.data import load
from flowvi.data.files import read_file
from flowvi.errors import ConfigError, DataError


def bits(rows: int, features: int = 6, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).randint(0, 2, size=(rows, features)).astype(np.uint8)


def grey(rows: int, features: int = 6, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).random_sample((rows, features))


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "uint16", "float16", "float32", "float64", ">f4"])
def test_binary_of_any_type(tmp_path: Path, dtype: str) -> None:
    splits = {"train": bits(30), "valid": bits(10, seed=1), "test": bits(20, seed=2)}
    path = npz(tmp_path / "mine.npz", **{key: values.astype(dtype) for key, values in splits.items()})
    for binarisation in ("fixed", "dynamic", "threshold"):
        data = load(path=path, binarisation=binarisation)
        assert (data.name, data.binarisation) == ("mine", "file:mine")
        assert (data.features, data.image_shape) == (6, None)
        assert data.valid is not None
        for images, key in ((data.train, "train"), (data.valid, "valid"), (data.test, "test")):
            assert images.levels == "binary" and images.pixels.dtype == torch.uint8
            assert np.array_equal(images.pixels.numpy(), splits[key])
    np.testing.assert_allclose(data.mean.numpy(), splits["train"].mean(0), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8"])
def test_grey(tmp_path: Path, dtype: str) -> None:
    train, test = grey(40).astype(dtype), grey(2000, seed=1).astype(dtype)
    path = npz(tmp_path / "mine.npz", train=train, test=test)
    fixed, dynamic = (load(path=path, validation=0, binarisation=rule) for rule in ("fixed", "dynamic"))
    assert (fixed.binarisation, dynamic.binarisation) == ("fixed", "dynamic")
    assert fixed.train.levels == fixed.test.levels == dynamic.test.levels == "binary"
    assert torch.equal(fixed.test.pixels, dynamic.test.pixels)
    assert abs(fixed.test.pixels.double().mean().item() - test.astype(float).mean()) < 0.02
    assert dynamic.train.levels == "unit" and dynamic.train.pixels.dtype == torch.float32
    np.testing.assert_array_equal(dynamic.train.pixels.numpy(), train.astype(np.float32))
    np.testing.assert_allclose(dynamic.mean.numpy(), train.astype(float).mean(0), rtol=1e-3)
    threshold = load(path=path, validation=0, binarisation="threshold")
    assert threshold.binarisation == "threshold"
    np.testing.assert_array_equal(threshold.test.pixels.numpy(), test.astype(float) > 0.5)


def test_columns_first(tmp_path: Path) -> None:
    path = npz(tmp_path / "mine.npz", train=np.asfortranarray(grey(40)), test=np.asfortranarray(bits(10)))
    data = load(path=path, validation=0, binarisation="dynamic")
    assert data.train.pixels.is_contiguous() and data.test.pixels.is_contiguous()
    np.testing.assert_array_equal(data.train.pixels.numpy(), grey(40).astype(np.float32))


def test_binary_beside_grey_counts_as_grey(tmp_path: Path) -> None:
    path = npz(tmp_path / "mine.npz", train=grey(40), test=bits(10))
    data = load(path=path, validation=0)
    assert data.binarisation == "fixed"
    assert np.array_equal(data.test.pixels.numpy(), bits(10))  # 0 and 1 are their own sample


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_constant_data(tmp_path: Path, value: float) -> None:
    path = npz(tmp_path / "mine.npz", train=np.full((40, 3), value), test=np.full((10, 3), value))
    assert len(load(path=path, validation=20).train) == 20


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".NPY"])
def test_one_array_is_split_by_seed(tmp_path: Path, suffix: str) -> None:
    values = np.unpackbits(np.arange(103, dtype=np.uint8)[:, None], axis=1)  # every row once
    path = tmp_path / f"mine{suffix}"
    with path.open("wb") as stream:
        np.savez(stream, anything=values) if suffix == ".npz" else np.save(stream, values)
    data, again, other = load(path=path), load(path=path), load(path=path, seed=1)
    assert data.valid is not None and again.valid is not None
    assert (len(data.train), len(data.valid), len(data.test)) == (83, 10, 10)
    joint = torch.cat([data.train.pixels, data.valid.pixels, data.test.pixels]).numpy()
    assert sorted(np.packbits(joint, axis=1)[:, 0].tolist()) == list(range(103))
    assert torch.equal(data.valid.pixels, again.valid.pixels)
    assert not torch.equal(data.test.pixels, other.test.pixels)
    assert not np.array_equal(data.test.pixels.numpy(), values[-10:])


def test_validation_is_held_out_of_train(tmp_path: Path) -> None:
    values = np.unpackbits(np.arange(100, dtype=np.uint8)[:, None], axis=1)
    path = npz(tmp_path / "mine.npz", train=values, test=bits(10, 8))
    data = load(path=path, validation=30)
    assert data.valid is not None and (len(data.train), len(data.valid)) == (70, 30)
    joint = torch.cat([data.train.pixels, data.valid.pixels]).numpy()
    assert sorted(np.packbits(joint, axis=1)[:, 0].tolist()) == list(range(100))
    assert load(path=path, validation=0).valid is None


@pytest.mark.parametrize("features", [1, 7, 8, 9, 784])
def test_packed_round_trip(tmp_path: Path, features: int) -> None:
    train, test = bits(30, features), bits(20, features, seed=1)
    path = npz(tmp_path / "mine.npz", train=np.packbits(train, axis=1), test=np.packbits(test, axis=1))
    data = load(path=path, packed=features, validation=0)
    assert data.features == features and data.binarisation == "file:mine"
    assert np.array_equal(data.train.pixels.numpy(), train) and np.array_equal(data.test.pixels.numpy(), test)


class Trap:
    """Unpickled, it would call `pytest.fail`."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return pytest.fail, ("a pickle was executed",)


def save(path: Path, **arrays: Any) -> None:
    np.savez(path, **arrays)


NAN = grey(30)
NAN[4, 3], NAN[9, 0], NAN[9, 1] = np.nan, np.inf, -np.inf
TEST = bits(10)

# what is written -> packed -> the message
BAD: dict[str, tuple[Callable[[Path], Any], int | None, str]] = {
    "missing": (lambda path: None, None, r"does not exist: data.path must name a .npz or .npy file"),
    "directory": (lambda path: path.mkdir(), None, r"is not a file: data.path must name"),
    "no zip": (
        lambda path: path.write_bytes(b"hello"),
        None,
        r"cannot be read: allowed are plain numeric arrays",
    ),
    "empty": (lambda path: path.write_bytes(b""), None, r"cannot be read: allowed are"),
    "pickle": (
        lambda path: path.write_bytes(pickle.dumps(Trap())),
        None,
        r"cannot be read: .*nothing pickled",
    ),
    "objects": (
        lambda path: save(path, train=np.array([[Trap()]], dtype=object), test=TEST),
        None,
        r"cannot be read: .*nothing pickled",
    ),
    "keys": (
        lambda path: save(path, train=TEST, validation=TEST),
        None,
        r"holds the arrays train, validation: allo",
    ),
    "no test": (
        lambda path: save(path, train=TEST, valid=TEST),
        None,
        r"train, valid: allowed are train and test, w",
    ),
    "no arrays": (lambda path: save(path), None, r"holds the arrays \(none\): allowed are train and test"),
    "text": (
        lambda path: save(path, train=np.array([["a"]]), test=TEST),
        None,
        r"array 'train' is of type <U1: al",
    ),
    "complex": (
        lambda path: save(path, train=TEST * 1j, test=TEST),
        None,
        r"array 'train' is of type complex128",
    ),
    "scalar": (
        lambda path: save(path, train=np.float32(1), test=TEST),
        None,
        r"shape \(\): allowed is \(N, features",
    ),
    "vector": (
        lambda path: save(path, train=TEST[0], test=TEST),
        None,
        r"shape \(6,\): allowed is \(N, features\)",
    ),
    "squares": (
        lambda path: save(path, train=TEST, test=np.zeros((5, 28, 28))),
        None,
        r"array 'test' has the shape \(5, 28, 28\): allowed is \(N, features\); reshape it to \(5, 784\)",
    ),
    "no rows": (
        lambda path: save(path, train=TEST[:0], test=TEST),
        None,
        r"'train' is empty, of the shape \(0, 6\)",
    ),
    "no columns": (
        lambda path: save(path, train=TEST, test=TEST[:, :0]),
        None,
        r"'test' is empty, of .*\(10, 0\)",
    ),
    "no squares": (
        lambda path: save(path, train=np.zeros((0, 2, 2)), test=TEST),
        None,
        r"shape \(0, 2, 2\): allowed",
    ),
    "nan": (
        lambda path: save(path, train=TEST, test=NAN),
        None,
        r"array 'test' has NaN or infinite values, 3 of them, the first at \[4, 3\]: allowed are bools, inte",
    ),
    "above": (
        lambda path: save(path, train=grey(5) * 0 + 255.0, test=TEST),
        None,
        r"array 'train' has values from 255.0 to 255.0: .*divide grey levels of 0 to 255 by 255$",
    ),
    "below": (
        lambda path: save(path, train=-grey(5) - 1, test=TEST),
        None,
        r"has values from -.* floats in \[0, 1\]$",
    ),
    "bytes": (
        lambda path: save(path, train=TEST * 200, test=TEST),
        None,
        r"values from 0 to 200: .*divide grey levels of 0 to 255 by 255, or set data.packed .* bit-packed$",
    ),
    "widths": (
        lambda path: save(path, train=bits(10, 5), test=TEST),
        None,
        r"the arrays differ in features \(train 5, test 6\): allowed is one number for all",
    ),
    "packed width": (
        lambda path: save(path, train=bits(10, 98), test=bits(10, 98)),
        800,
        r"'train' has rows of 98 uint8: data.packed=800 allows rows of 100 uint8; leave data.packed out if",
    ),
    "packed type": (
        lambda path: save(path, train=grey(9, 1), test=TEST),
        8,
        r"rows of 1 float64: data.packed=8 allows",
    ),
    "packed rest": (
        lambda path: save(path, train=np.full((5, 2), 255, np.uint8), test=TEST[:, :2]),
        15,
        r"'train' has bits set beyond the 15 features of data.packed=15: allowed are zeros there",
    ),
    "few rows": (
        lambda path: save(path, x=bits(9)),
        None,
        r"mine: 9 rows cannot be split 80/10/10: at least 10",
    ),
    "validation": (
        lambda path: save(path, train=bits(500), test=TEST),
        None,
        r"mine: data.validation=10000 cannot be held out of 500 training images: allowed is at most "
        r"half \(set data.validation=50, or 0 for none\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_one_clear_line(tmp_path: Path, case: str) -> None:
    write, packed, message = BAD[case]
    path = tmp_path / "mine.npz"
    write(path)
    with pytest.raises(DataError) as caught:
        load(path=path, packed=packed)
    text = str(caught.value)
    assert re.search(message, text), text
    assert "\n" not in text and "mine" in text and len(text.replace(str(path), "")) < 400


def test_wrong_suffix(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("0,1")
    with pytest.raises(DataError, match=r"mine.csv: suffix '.csv' is not .*: allowed are .npz and .npy"):
        load(path=tmp_path / "mine.csv")


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    np.save(tmp_path / "mine.npy", bits(20))
    assert load(path="~/mine.npy").name == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "mnits"},
            r"unknown data.name 'mnits': did you mean 'mnist'\? \(allowed: mnist, cifar10; data.path takes",
        ),
        ({"name": "zzz"}, r"unknown data.name 'zzz' \(allowed: mnist"),
        (
            {"binarisation": "grey"},
            r"unknown data.binarisation 'grey': allowed are fixed, dynamic, threshold",
        ),
        ({"validation": -1}, r"data.validation=-1 is not allowed: give a number of images, 0 for none"),
        ({"packed": 784}, r"data.packed=784 describes a file: give data.path, or leave data.packed out"),
        (
            {"packed": 0, "path": "x.npz"},
            r"data.packed=0 is not allowed: give the number of features, at least 1",
        ),
        ({"seed": -1}, r"seed -1 is out of range"),
    ],
)
def test_choices_that_are_not_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(**options)


def saved(suffix: str) -> bytes:
    stream = io.BytesIO()
    if suffix == ".npy":
        np.save(stream, grey(20))
    else:
        np.savez_compressed(stream, train=grey(20), test=grey(10))
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".npy", ".npz"]))
def test_damaged_bytes_end_in_a_data_error(tmp_path: Path, data: st.DataObject, suffix: str) -> None:
    content = bytearray(saved(suffix))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        source = read_file(path)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert all(values.min() >= 0 and values.max() <= 1 for values in source.arrays.values())
