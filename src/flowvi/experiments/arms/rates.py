"""Which learning rate for which family: three rates each, by the validation images. Data only; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from flowvi.experiments.arms.arm import Arm, Budget
from flowvi.experiments.run import Sampling

__all__ = ["BUDGETS", "FAMILIES", "RATES", "arms"]

RATES = 3e-4, 1e-3, 2e-3

# the headline's families first
FAMILIES: Mapping[str, str] = {
    "no flow": "dlgm.dc.mnist",
    "planar, K = 10": "dlgm.nf10.mnist",
    "NICE, K = 10": "dlgm.nice10.mnist",
    "planar, K = 80": "dlgm.nf80.mnist",
    "Sylvester, K = 10": "dlgm.sylvester10.mnist",
    "IAF, K = 4": "dlgm.iaf4.mnist",
    "radial, K = 10": "dlgm.radial10.mnist",
    "full covariance": "dlgm.full_rank.mnist",
    "Householder, K = 10": "dlgm.householder10.mnist",
    "RealNVP, K = 10": "dlgm.realnvp10.mnist",
}
SMOKE_FAMILIES = "no flow", "planar, K = 10"

BUDGETS: Mapping[str, Budget] = {
    "smoke": Budget(
        "two families, 60 updates: a minute",
        seeds=(0,),
        settings={"training.updates": 60, "training.warmup": 30, "training.validate_every": 60},
        tests=(Sampling(10, 100),),
    ),
    "default": Budget(
        "all families, 5,000 updates, one seed: two hours on two cores",
        seeds=(0,),
        settings={"data.binarisation": "fixed", "training.updates": 5_000},
        tests=(Sampling(10, 1_000),),
    ),
}


def arms(budget: str) -> list[Arm]:
    """The families, each with all rates."""
    return [
        Arm(f"{preset}/{rate:g}", f"{title}, {rate:g}", preset, {"training.learning_rate": rate})
        for title, preset in FAMILIES.items()
        if budget != "smoke" or title in SMOKE_FAMILIES
        for rate in RATES
    ]
