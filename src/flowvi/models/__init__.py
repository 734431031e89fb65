"""Models: `log_joint(x, z)` and `posterior(x)`. They know nothing of optimisers and files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowvi.models.dlgm import DLGM
    from flowvi.models.likelihoods import Bernoulli, Likelihood, LogitNormal
    from flowvi.models.networks import Decoder, Encoder, Maxout

__all__ = ["DLGM", "Bernoulli", "Decoder", "Encoder", "Likelihood", "LogitNormal", "Maxout"]

_HOMES = {
    "DLGM": "flowvi.models.dlgm",
    "Bernoulli": "flowvi.models.likelihoods",
    "Decoder": "flowvi.models.networks",
    "Encoder": "flowvi.models.networks",
    "Likelihood": "flowvi.models.likelihoods",
    "LogitNormal": "flowvi.models.likelihoods",
    "Maxout": "flowvi.models.networks",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
