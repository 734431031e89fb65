"""Checkpoints and weights on the disk: written whole or not at all, read without running anything they hold."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from flowvi.errors import CheckpointError
from flowvi.experiments.run import atomic_write
from flowvi.models import DLGM

__all__ = ["fill", "read_checkpoint", "read_weights", "write_checkpoint", "write_weights"]

FORMAT = 1
LFS_POINTER = b"version https://git-lfs"
DIGEST_BYTES = 32  # the SHA-256 of all that comes before it, at the end of the file


def fill(model: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Put `state` into the model.

    Raises:
        CheckpointError: it is the state of another model.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{source} holds the weights of another model than config.json names: {first}") from error


def write_weights(path: Path, model: DLGM) -> None:
    """Write a model's weights, with the number of its features.

    Raises:
        RunError: they could not be written.
    """
    # copies: safetensors refuses tensors that share memory, as the tied weights of somebody's own network do
    state = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(path) as out:
        out.write(save_tensors({**state, "features": torch.tensor(model.features)}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if content.startswith(LFS_POINTER):
        raise CheckpointError(f"{path} is a pointer of Git LFS, not the weights: run `git lfs pull` beside it")
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:  # a type or size that torch does not know
        raise CheckpointError(f"{path} is damaged: {error}") from error


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the whole state of training.

    Raises:
        RunError: it could not be written; the one before is still there.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    with atomic_write(path) as out:
        out.write(buffer.getbuffer())
        out.write(hashlib.sha256(buffer.getbuffer()).digest())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state that `write_checkpoint` wrote, on the CPU.

    Raises:
        CheckpointError: it is damaged, or another version of flowvi wrote it.
    """
    remedy = "remove it to train from the start, or restore it"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    body, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError(f"the checkpoint {path} is damaged (its checksum is wrong): {remedy}")
    try:
        state: Any = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on what it did not write, or will not unpickle
        raise CheckpointError(f"the checkpoint {path} holds what flowvi does not write: {remedy}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} was written by another version of flowvi: remove it to train from the start")
    return state
