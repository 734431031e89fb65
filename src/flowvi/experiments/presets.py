"""Presets: the models and data that `--config` names. Data only, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """What a name stands for: its settings by dotted key, the group it is listed under, and a line on it."""

    group: str
    summary: str
    settings: Mapping[str, Any]


_MNIST = "MNIST, deep latent Gaussian model with 40 latents (Rezende & Mohamed 2015, Section 6.2)"


def _gaussian(summary: str) -> Preset:
    return Preset(_MNIST, summary, {"data.name": "mnist", "flow.kind": "gaussian", "flow.length": 0})


def _planar(length: int) -> Preset:
    settings = {"data.name": "mnist", "flow.kind": "planar", "flow.length": length}
    return Preset(_MNIST, f"{length} planar layers, parameters amortised", settings)


PRESETS: Mapping[str, Preset] = {
    "dlgm.dc.mnist": _gaussian("no flow: a Gaussian with diagonal covariance (K = 0)"),
    "dlgm.nf0.mnist": _gaussian("the same model as dlgm.dc.mnist"),
    "dlgm.nf10.mnist": _planar(10),
    "dlgm.nf20.mnist": _planar(20),
    "dlgm.nf40.mnist": _planar(40),
    "dlgm.nf80.mnist": _planar(80),
}
