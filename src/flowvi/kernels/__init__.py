"""Fused kernels, each equal to a definition in plain torch: chains (`reference`), maxout, Bernoulli and RMSprop."""

from __future__ import annotations

from torch import Tensor

from flowvi.kernels.bernoulli import bernoulli_log_prob
from flowvi.kernels.fused import chain
from flowvi.kernels.maxout import maxout
from flowvi.kernels.rmsprop import rmsprop_, takes_rmsprop
from flowvi.kernels.score import planar_push_score

__all__ = [
    "bernoulli_log_prob",
    "householder_forward",
    "householder_inverse",
    "maxout",
    "planar_forward",
    "planar_inverse",
    "planar_push_score",
    "radial_forward",
    "radial_inverse",
    "rmsprop_",
    "takes_rmsprop",
]


def planar_forward(z: Tensor, parameters: Tensor, invertibility: str, h: str = "tanh") -> tuple[Tensor, Tensor]:
    """See `reference.planar_forward`."""
    return chain("planar", z, parameters, (False, invertibility == "centred", h == "leaky_relu"))


def planar_inverse(z: Tensor, parameters: Tensor, invertibility: str, h: str = "tanh") -> tuple[Tensor, Tensor]:
    """See `reference.planar_inverse`."""
    return chain("planar", z, parameters, (True, invertibility == "centred", h == "leaky_relu"))


def radial_forward(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.radial_forward`."""
    return chain("radial", z, parameters)


def radial_inverse(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.radial_inverse`."""
    return chain("radial", z, parameters, (True, False, False))


def householder_forward(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.householder_forward`."""
    return chain("householder", z, parameters)


def householder_inverse(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.householder_inverse`."""
    return chain("householder", z, parameters, (True, False, False))
