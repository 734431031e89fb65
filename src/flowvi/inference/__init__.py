"""Free energy, annealing, the paper's optimiser and evidence, for any model with `log_joint` and `posterior`.

`fit` gives a posterior for a log density of the user's own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowvi.inference import adapters, evidence, supports, targets
    from flowvi.inference.evidence import Evidence, importance_sampling
    from flowvi.inference.fitting import AmortisedFit, Fit, fit
    from flowvi.inference.objective import FreeEnergy, annealing_weight, free_energy
    from flowvi.inference.rmsprop import RMSprop

__all__ = [
    "AmortisedFit",
    "Evidence",
    "Fit",
    "FreeEnergy",
    "RMSprop",
    "adapters",
    "annealing_weight",
    "evidence",
    "fit",
    "free_energy",
    "importance_sampling",
    "supports",
    "targets",
]

_HOMES = {
    "AmortisedFit": "flowvi.inference.fitting",
    "Evidence": "flowvi.inference.evidence",
    "Fit": "flowvi.inference.fitting",
    "FreeEnergy": "flowvi.inference.objective",
    "RMSprop": "flowvi.inference.rmsprop",
    "annealing_weight": "flowvi.inference.objective",
    "fit": "flowvi.inference.fitting",
    "free_energy": "flowvi.inference.objective",
    "importance_sampling": "flowvi.inference.evidence",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in ("adapters", "evidence", "supports", "targets"):
        return import_module(f"flowvi.inference.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
