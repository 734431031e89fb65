"""A published model: what is written, where it is refused, and what comes back."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flowvi
from flowvi.errors import CheckpointError, ConfigError, RunError
from flowvi.reports.export import export

NAMES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, tested in two ways."""
    folder = tmp_path_factory.mktemp("export")
    pixels = np.random.default_rng(0).integers(0, 2, (200, 16)).astype(np.uint8)
    np.savez(folder / "mine.npz", images=pixels)
    small = {
        "data.path": str(folder / "mine.npz"),
        "flow.length": 2,
        "model.latents": [2],
        "model.maxout": "8-4",
        "training.batch": 10,
        "training.updates": 3,
    }
    run = flowvi.train("dlgm.nf10.mnist", seed=7, out=folder / "run", **small)
    flowvi.test(run)
    flowvi.test(run, samples=30)
    return run.folder


@pytest.fixture
def run(source: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(source, tmp_path / "run"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def change(file: Path, **keys: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


def draws(folder: Path) -> list[torch.Tensor]:
    model = flowvi.load(folder)
    torch.manual_seed(3)
    x = model.sample(5)
    z, log_q = model.posterior(x).rsample_and_log_prob((4,))
    return [x, z, log_q, model.log_joint(x, z)]


def test_it_gives_the_same_model_to_the_bit(source: Path, tmp_path: Path) -> None:
    out = flowvi.export(source, tmp_path / "new" / "out")
    assert names(out) == NAMES
    assert names(out.parent) == ["out"]
    assert (out / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    for ours, theirs in zip(draws(source), draws(out), strict=True):
        assert torch.equal(ours, theirs)


def test_no_path_of_this_machine_is_published(source: Path, tmp_path: Path) -> None:
    out = export(source, tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["data"]["path"] == "mine.npz"
    for name in NAMES[:2]:
        assert str(source.parent) not in (out / name).read_text()


def test_the_card_has_the_numbers_of_the_results(source: Path, tmp_path: Path) -> None:
    result = json.loads((source / "result.json").read_text())
    card = (export(source, tmp_path / "out") / "README.md").read_text()
    rows = [line for line in card.splitlines() if line.startswith("| 20 test images of mine, file:mine")]
    assert ["| 200 |" in rows[0], "| 30 |" in rows[1]] == [True, True]
    for key in ("free_energy", "nll", "kl"):
        assert f" {result[key]:.2f} ± {result[f'{key}_se']:.2f} |" in rows[0]
    for text in (
        f"{result['parameter_count']:,}",
        result["versions"],
        result["config_hash"],
        result["weights_sha256"],
        "flowvi train --config=dlgm.nf10.mnist flow.length=2 data.path=mine.npz ",
        " seed=7",
        "does not know its licence",
        "F is an upper bound of −ln p(x), not −ln p(x)",
    ):
        assert text in card


def test_without_the_default_test_the_most_thorough_leads(run: Path, tmp_path: Path) -> None:
    (run / "result.json").unlink()
    card = (export(run, tmp_path / "out") / "README.md").read_text()
    assert "S = 30" in card and "samples=30 images=20" in card


def test_other_estimators_are_not_in_the_card(run: Path, tmp_path: Path) -> None:
    before = (export(run, tmp_path / "out") / "README.md").read_text()
    other = {**json.loads((run / "result.json").read_text()), "estimator": "ais", "nll": 77.77}
    (run / "result-ais-1000.json").write_text(json.dumps({key: other[key] for key in other if key != "samples"}))
    assert (export(run, tmp_path / "out") / "README.md").read_text() == before


def test_an_export_of_the_same_run_is_written_anew(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(run, out)
    (out / "LICENSE").write_text("mine")
    change(run / "result.json", free_energy=1234.5)
    export(run, out)
    assert "1,234.50" in (out / "README.md").read_text()
    assert names(out) == ["LICENSE", *NAMES]


def test_a_folder_with_something_else_is_refused(run: Path, tmp_path: Path) -> None:
    out = export(run, tmp_path / "out")
    other = Path(shutil.copytree(run, tmp_path / "other"))
    change(other / "config.json", seed=8)
    for file in other.glob("result*.json"):
        change(file, seed=8)
    before = {name: (out / name).read_bytes() for name in NAMES}
    (tmp_path / "file").write_text("mine")
    for source, target, says in (
        (other, out, "holds the export of another run"),
        (run, run, "is the run itself"),
        (run, tmp_path, "is not empty, and holds no export of this run"),
        (run, tmp_path / "file", "is a file"),
        (run, tmp_path / "file" / "below", "cannot write"),
    ):
        with pytest.raises(RunError, match=says) as error:
            export(source, target)
        assert "\n" not in str(error.value)
    assert {name: (out / name).read_bytes() for name in NAMES} == before


def test_a_run_without_a_result_is_told_how_to_test_it(run: Path, tmp_path: Path) -> None:
    for file in run.glob("result*"):
        file.unlink()
    with pytest.raises(RunError, match=f"no result in {run}: run `flowvi test {run}` first"):
        export(run, tmp_path / "out")
    (run / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="training has not finished"):
        export(run, tmp_path / "out")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"seed": 1}, "another config or seed"),
        ({"config_hash": "0"}, "another config or seed"),
        ({"weights_sha256": "0"}, "other weights than"),
        ({"nll": None}, "has no nll"),
        ({"free_energy": float("nan")}, "has no free_energy, or one that is not finite"),
        ({"samples": "many"}, "has no samples"),
    ],
)
def test_a_result_that_is_not_of_these_weights_is_refused(
    run: Path, tmp_path: Path, keys: dict[str, Any], says: str
) -> None:
    change(run / "result.json", **keys)
    with pytest.raises(RunError, match=says):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_leaves_nothing_half_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    out = tmp_path / "published" / "out"
    old = export(run, out) / "README.md" if before else None
    card = old and old.read_text()
    change(run / "result.json", free_energy=1234.5)
    synced: list[int] = []

    def fsync(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunError, match=r"cannot write .*: No space left on device"):
        export(run, out)
    assert names(out.parent) == (["out"] if before else [])
    assert (old and old.read_text()) == card


def test_what_a_killed_export_left_is_no_obstacle(run: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "model.safetensors").write_bytes(b"half")
    export(run, tmp_path / "out")
    assert not (tmp_path / ".out.part").exists()


def test_the_present_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export(run, ".")
    assert names(tmp_path / "here") == NAMES


def test_an_exported_model_is_tested_and_exported_like_a_run(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(source, tmp_path / "out")
    monkeypatch.chdir(source.parent)  # where the data file is
    ours, theirs = json.loads((source / "result.json").read_text()), flowvi.test(out)
    same = ("free_energy", "nll", "kl", "config_hash", "weights_sha256", "parameter_count")
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert theirs["selected_update"] is None  # its history is not published
    assert names(export(out, tmp_path / "again")) == NAMES
    assert names(export(source, out)) == sorted([*NAMES, "result.json", "result.npz"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", None, "model.safetensors lacks the config.json"),
        ("config.json", b"{", "cannot read"),
        ("config.json", b"[" * 100_000, "cannot read"),
        ("config.json", b'{"preset": "dlgm.nf10.mnist", "colour": 1}', "another version of flowvi wrote it"),
        ("model.safetensors", None, "fetch the folder again"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("model.safetensors", b"\x00" * 100, "is damaged"),
    ],
)
def test_a_broken_folder_is_said_to_be_so(
    source: Path, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    out = export(source, tmp_path / "out")
    (out / name).unlink()
    if content is not None:
        (out / name).write_bytes(content)
    with pytest.raises(RunError, match=says) as error:
        flowvi.load(out)
    assert "\n" not in str(error.value)


def test_names_that_are_no_folder(tmp_path: Path, source: Path) -> None:
    for path, says in ((tmp_path / "none", "no such folder"), (source / "model.safetensors", "is a file")):
        with pytest.raises(RunError, match=says):
            flowvi.load(path)


def test_weights_of_another_model_or_type_do_not_fit(source: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    out = export(source, tmp_path / "out")
    weights = out / "model.safetensors"
    state = load_file(weights)
    save_file({name: x.double() if x.is_floating_point() else x for name, x in state.items()}, weights)
    with pytest.raises(CheckpointError, match=r"torch\.float64, not torch\.float32"):
        flowvi.load(out)
    config = json.loads((out / "config.json").read_text())
    config["model"]["latents"] = [10**12]
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cannot make the model"):
        flowvi.load(out)


def test_code_that_a_folder_brings_is_not_run(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = export(source, tmp_path / "out")
    (out / "brought").mkdir()
    for file in (out / "brought_net.py", out / "brought" / "__init__.py", out / "brought" / "net.py"):
        file.write_text("from pathlib import Path\nPath('run').touch()\n")
    monkeypatch.chdir(out)
    monkeypatch.syspath_prepend("")
    for module in ("brought_net", "brought.net"):
        config = json.loads((out / "config.json").read_text())
        config["model"]["encoder"] = f"{module}:Net"
        (out / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match="flowvi does not run it"):
            flowvi.load(out)
        assert module not in sys.modules and not (out / "run").exists()
    shutil.copy(out / "brought_net.py", out / "zuko.py")
    monkeypatch.delitem(sys.modules, "zuko", raising=False)
    config["model"]["encoder"] = None
    config["flow"] = {"kind": "zuko.NICE", "length": 2}
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="needs the module 'zuko'"):
        flowvi.load(out)
    assert not (out / "run").exists()


def test_a_config_can_call_nothing_but_networks(source: Path, tmp_path: Path) -> None:
    out = export(source, tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    for path in ("os:kill", "collections:Counter"):
        config["model"]["encoder"] = path
        (out / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError, match=r"expected a torch\.nn\.Module class"):
            flowvi.load(out)
