"""Publish a trained model: its weights, its config and a model card, in a folder of their own."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from pathlib import Path, PurePath

from flowvi.errors import RunError
from flowvi.experiments.lines import read_record
from flowvi.experiments.load import load
from flowvi.experiments.run import Run, as_run
from flowvi.reports.card import mark, model_card
from flowvi.reports.folder import write_folder
from flowvi.reports.tables import Record, finite, of_importance

__all__ = ["export"]

FIGURES = ("free_energy", "nll", "kl")


def export(run: Run | str | os.PathLike[str], path: str | os.PathLike[str]) -> Path:
    """Write a tested run to a folder that can be published: `model.safetensors`, `config.json`, `README.md`.

    The weights are the tested ones, byte for byte. The card's numbers are those of the run's result files:
    `result.json` leads; a run that has only other tests is described by the most thorough of them. The config
    names a data file without its folder. `flowvi.load(path)` gives the model back.

    Args:
        run: a run that is trained and tested, or its folder.
        path: the folder to write: a new or an empty one, or an earlier export of the same run (equal config and
            seed), which is then written anew; other files in it stay.

    Returns:
        `path`.

    Raises:
        RunError: the run does not exist or has no result; a result is damaged, not finite, or of other weights;
            `path` holds something else or cannot be written. Nothing is then left half-written.
        CheckpointError: the weights are missing, damaged, or of another model.

    Example:
        >>> export("runs/dlgm.nf10.mnist/0", "published/nf10")  # doctest: +SKIP
    """
    run, target = as_run(run), Path(path)
    load(run)  # what cannot be loaded is not published
    weights = run.weights.read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    results = _results(run, digest)
    try:
        _check_target(run, target)
    except OSError as error:
        raise RunError(f"cannot use {target}: {error.strerror}; name another folder") from error
    files = {
        "README.md": model_card(run.config, results, digest).encode(),
        "model.safetensors": weights,
        "config.json": _config(run).encode(),
    }
    write_folder(target, files)
    return target


def _results(run: Run, digest: str) -> list[Record]:
    """The run's results, the default test's first, then the most thorough."""
    found = {}
    for file in sorted(run.folder.glob("result*.json")):
        try:
            record = read_record(file, file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"cannot read {file} ({error}): remove it, and test the run again") from error
        if of_importance(record):  # the card's table is of these alone
            _check_result(run, file, record, digest)
            found[file.name] = record
    if not found:
        raise RunError(f"no result in {run.folder}: run `{_test_command(run)}` first")

    def rank(name: str) -> tuple[bool, int, int]:
        return name == "result.json", found[name]["images"], found[name]["samples"]

    return [found[name] for name in sorted(found, key=rank, reverse=True)]


def _check_result(run: Run, file: Path, record: Record, digest: str) -> None:
    again = f"run `{_test_command(run)}` again, or remove the file"
    ours = (run.config.hash(), run.config.seed)
    if (record.get("config_hash"), record.get("seed")) != ours:
        raise RunError(f"{file} is the result of another config or seed than config.json's: {again}")
    if record.get("weights_sha256", digest) != digest:  # results of earlier versions lack it
        raise RunError(f"{file} is the result of other weights than model.safetensors holds: {again}")
    wrong = [key for key in FIGURES if not finite(record.get(key))]
    wrong += [key for key in ("images", "samples") if not isinstance(record.get(key), int)]
    if wrong:
        raise RunError(f"{file} has no {wrong[0]}, or one that is not finite: {again}")


def _test_command(run: Run) -> str:
    return shlex.join(["flowvi", "test", str(run.folder)])


def _check_target(run: Run, target: Path) -> None:
    """Refuse a folder in which something else would be overwritten or mixed with."""
    if target.exists() and not target.is_dir():
        raise RunError(f"{target} is a file: name a folder to export to")
    if target.exists() and target.samefile(run.folder):
        raise RunError(f"{target} is the run itself: name another folder to export to")
    if not target.exists() or not any(target.iterdir()):
        return
    card = target / "README.md"
    text = card.read_text(errors="replace") if card.is_file() else ""
    if mark(run.config) in text:
        return
    if "<!-- flowvi export:" in text:
        raise RunError(f"{target} holds the export of another run: name another folder, or remove it")
    raise RunError(f"{target} is not empty, and holds no export of this run: name another folder, or empty it")


def _config(run: Run) -> str:
    """`config.json`, a data file without its folder: that is of one machine only, and nobody else's business."""
    plain = run.config.to_dict()
    plain["data"]["path"] = plain["data"]["path"] and PurePath(plain["data"]["path"]).name
    return json.dumps(plain, indent=2) + "\n"
