"""How often training blows up: ten seeds of planar flows, with what keeps them steady and without. Data only.

The step size stays at 1e-3 throughout: a run of any length has its first updates at that, and a short one that decays
would flatter itself. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from flowvi.experiments.arms.arm import Arm, Budget, Settings
from flowvi.experiments.run import Sampling

__all__ = ["ARMS", "BUDGETS", "arms"]

# What `modern` has against it, taken away: the bound on each image's gradient; that on the norm of all; the start near
# the identity, with the constraint that keeps u = 0 the identity.
_NORM: Settings = {"training.clip_image": None}
_UNCLIPPED: Settings = {**_NORM, "training.clip": None}
_PLAIN: Settings = {**_UNCLIPPED, "flow.init": "xavier", "flow.invertibility": "paper"}

ARMS: tuple[Arm, ...] = (
    Arm("modern-20", "modern, K = 20", "dlgm.nf20.mnist"),
    Arm("modern-80", "modern, K = 80", "dlgm.nf80.mnist"),
    Arm("norm-20", "bound on the norm alone, K = 20", "dlgm.nf20.mnist", _NORM),
    Arm("norm-80", "bound on the norm alone, K = 80", "dlgm.nf80.mnist", _NORM),
    Arm("unclipped-20", "no bound, K = 20", "dlgm.nf20.mnist", _UNCLIPPED),
    Arm("plain-20", "no bound, plain start, K = 20", "dlgm.nf20.mnist", _PLAIN),
)
SMOKE_ARMS = "modern-20", "plain-20"

_WATCHED: Settings = {"data.binarisation": "fixed", "training.schedule": "constant", "training.log_every": 10}

BUDGETS: Mapping[str, Budget] = {
    "smoke": Budget(
        "K = 20, 60 updates, one seed: a minute",
        seeds=(0,),
        settings={**_WATCHED, "training.updates": 60, "training.warmup": 30, "training.validate_every": 60},
        tests=(Sampling(10, 100),),
    ),
    "default": Budget(
        "K = 20 and 80, 5,000 updates, 10 seeds: three hours on two cores",
        seeds=tuple(range(10)),
        settings={**_WATCHED, "training.updates": 5_000},
        tests=(Sampling(10, 1_000),),
    ),
}


def arms(budget: str) -> list[Arm]:
    """What is run at a budget, in the order in which it is begun."""
    return [arm for arm in ARMS if budget != "smoke" or arm.name in SMOKE_ARMS]
