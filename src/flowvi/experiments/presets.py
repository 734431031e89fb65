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


_MODEL = "deep latent Gaussian model with 40 latents on MNIST"
_PAPER = f"Rezende & Mohamed 2015, Section 6.2: {_MODEL}"
_OTHERS = f"The same {_MODEL}, other flows"
_CIFAR10 = "Rezende & Mohamed 2015, Section 6.2: the model with 30 latents on patches of CIFAR-10, 3 × 8 × 8 pixels"


def _preset(group: str, kind: str, length: int, summary: str, **options: Any) -> Preset:
    flow = {"kind": kind, "length": length, **options}
    return Preset(group, summary, {"data.name": "mnist", **{f"flow.{key}": value for key, value in flow.items()}})


def _cifar10(kind: str, length: int, summary: str) -> Preset:
    settings = {"data.name": "cifar10", "model.latents": [30], "flow.kind": kind, "flow.length": length}
    return Preset(_CIFAR10, summary, settings)


PRESETS: Mapping[str, Preset] = {
    "dlgm.dc.mnist": _preset(_PAPER, "gaussian", 0, "no flow: a Gaussian with diagonal covariance (K = 0)"),
    "dlgm.nf0.mnist": _preset(_PAPER, "gaussian", 0, "the same model as dlgm.dc.mnist"),
    "dlgm.nf10.mnist": _preset(_PAPER, "planar", 10, "10 planar layers, parameters amortised"),
    "dlgm.nf20.mnist": _preset(_PAPER, "planar", 20, "20 planar layers, parameters amortised"),
    "dlgm.nf40.mnist": _preset(_PAPER, "planar", 40, "40 planar layers, parameters amortised"),
    "dlgm.nf80.mnist": _preset(_PAPER, "planar", 80, "80 planar layers, parameters amortised"),
    "dlgm.nice10.mnist": _preset(_PAPER, "nice", 10, "10 additive couplings, mixed by permutations (NICE)"),
    "dlgm.nice20.mnist": _preset(_PAPER, "nice", 20, "20 additive couplings"),
    "dlgm.nice40.mnist": _preset(_PAPER, "nice", 40, "40 additive couplings"),
    "dlgm.nice80.mnist": _preset(_PAPER, "nice", 80, "80 additive couplings"),
    "dlgm.full_rank.mnist": _preset(_OTHERS, "full_rank", 0, "no flow: a Gaussian with full covariance"),
    "dlgm.radial10.mnist": _preset(_OTHERS, "radial", 10, "10 radial layers"),
    "dlgm.householder10.mnist": _preset(_OTHERS, "householder", 10, "10 pairs of Householder reflections"),
    "dlgm.sylvester10.mnist": _preset(_OTHERS, "sylvester", 10, "10 orthogonal Sylvester layers, M = 8", bottleneck=8),
    "dlgm.iaf4.mnist": _preset(_OTHERS, "iaf", 4, "4 inverse autoregressive layers"),
    "dlgm.realnvp10.mnist": _preset(_OTHERS, "realnvp", 10, "10 affine couplings (RealNVP)"),
    "dlgm.nsf4.mnist": _preset(_OTHERS, "zuko.NSF", 4, "4 neural spline couplings, from the zuko package"),
    "dlgm.dc.cifar10": _cifar10("gaussian", 0, "no flow: a Gaussian with diagonal covariance (K = 0)"),
    "dlgm.nf2.cifar10": _cifar10("planar", 2, "2 planar layers, parameters amortised"),
    "dlgm.nf5.cifar10": _cifar10("planar", 5, "5 planar layers, parameters amortised"),
    "dlgm.nf10.cifar10": _cifar10("planar", 10, "10 planar layers, parameters amortised"),
}
