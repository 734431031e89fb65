"""The arms of Figure 4 and Table 2: one grid, two views. Data only; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from flowvi.experiments.arms.arm import Arm, Budget
from flowvi.experiments.run import Sampling

__all__ = ["ARMS", "BUDGETS", "GAUSSIAN", "IN_TIME", "LENGTHS", "LONG", "LONG_RATE", "OTHERS", "RATE", "arms"]

LENGTHS = 10, 20, 40, 80  # the paper's K, besides 0
GAUSSIAN = "gaussian-0"
IN_TIME = "nice_time-10"
OTHERS = IN_TIME, "radial-10", "sylvester-10", "iaf-4"  # which the paper does not have

# A step of NICE's takes 1.80 times as long as one of planar's at K = 10 [quartiles 1.71, 2.05], on one thread, as these
# runs are trained (`python -m benchmarks.flows dlgm.nf10.mnist dlgm.nice10.mnist --threads 1`).
_SHARE = 0.55

# The comparison that matters most comes first: what is interrupted has its ends rather than its middle.
_ORDER = 10, 80, 40, 20

ARMS: tuple[Arm, ...] = (
    Arm(GAUSSIAN, "no flow, K = 0", "dlgm.dc.mnist"),
    *(
        Arm(f"{flow}-{length}", f"{title}, K = {length}", f"dlgm.{preset}{length}.mnist")
        for length in _ORDER
        for flow, title, preset in (("planar", "planar", "nf"), ("nice", "NICE", "nice"))
    ),
    Arm(IN_TIME, "NICE, K = 10, equal time", "dlgm.nice10.mnist", share=_SHARE),
    Arm("radial-10", "radial, K = 10", "dlgm.radial10.mnist"),
    Arm("sylvester-10", "Sylvester, K = 10", "dlgm.sylvester10.mnist"),
    Arm("iaf-4", "IAF, K = 4", "dlgm.iaf4.mnist"),
)
SMOKE_ARMS = GAUSSIAN, "planar-10", "nice-10"

# The best of three on validation images for no flow, planar and NICE at K = 10, and planar at K = 80 (`flowvi reproduce
# rates`, results/rates.jsonl); lengths between go with the nearer.
RATE = 2e-3
LONG_RATE = 1e-3
LONG = "planar-40", "planar-80"

_TESTS = Sampling(), Sampling(5000, 1000)  # the second says how far S = 200 is off

BUDGETS: Mapping[str, Budget] = {
    "smoke": Budget(
        "K = 0 and 10, 200 updates, 200 test images, one seed: minutes",
        seeds=(0,),
        settings={"training.updates": 200, "training.warmup": 100, "training.validate_every": 200},
        tests=(Sampling(20, 200), Sampling(100, 50)),
    ),
    "short": Budget(
        "every K, fixed binarisation, 20,000 updates, 3 seeds: a day on two cores",
        seeds=(0, 1, 2),
        settings={"training.updates": 20_000, "training.learning_rate": RATE, "data.binarisation": "fixed"},
        tests=_TESTS,
    ),
    "paper": Budget(
        "every K, the paper's 500,000 updates and optimiser, 3 seeds: for a GPU",
        seeds=(0, 1, 2),
        settings={"training.protocol": "paper", "data.binarisation": "fixed"},
        tests=_TESTS,
    ),
}


def arms(budget: str) -> list[Arm]:
    """What is run at a budget, in the order in which it is begun."""
    if budget == "smoke":
        return [arm for arm in ARMS if arm.name in SMOKE_ARMS]
    rates = {"training.learning_rate": LONG_RATE} if budget == "short" else {}
    return [replace(arm, settings={**arm.settings, **rates}) if arm.name in LONG else arm for arm in ARMS]
