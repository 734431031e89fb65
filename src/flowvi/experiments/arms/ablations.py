"""The ablations: questions that the paper leaves open, each as a grid. Data only; imports no torch.

A new ablation is one entry of `ABLATIONS`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowvi.experiments.arms.arm import Arm, Budget, Settings
from flowvi.experiments.run import Sampling

__all__ = ["ABLATIONS", "BUDGETS", "Ablation", "Contrast", "Levels", "arms"]

Levels = Mapping[str, Settings]
"""The settings of each level by its title, the level that the others are compared with first. A setting `preset`
names the preset that a level is made of."""


@dataclass(frozen=True)
class Contrast:
    """Two arms that differ in one factor: `arm` has `level` of it, `against` has `other`; both are `at` the rest."""

    factor: str
    level: str
    other: str
    at: str
    arm: str
    against: str


@dataclass(frozen=True)
class Ablation:
    """Every combination of the levels of some factors.

    Attributes:
        name: of the ablation.
        question: that it answers.
        factors: the levels of each, by its title.
        without: a factor at each of whose levels there is a model without a flow besides, which the others are compared
            with; or None.
    """

    name: str
    question: str
    factors: Mapping[str, Levels]
    without: str | None = None

    def points(self, most: int | None = None) -> Iterator[tuple[str, ...]]:
        """The level of each factor, for each combination; of at most so many levels each."""
        yield from itertools.product(*(list(levels)[:most] for levels in self.factors.values()))

    def arm(self, point: tuple[str, ...]) -> Arm:
        """The arm of a combination of levels."""
        settings: dict[str, Any] = {}
        for levels, level in zip(self.factors.values(), point, strict=True):
            settings |= levels[level]
        preset = settings.pop("preset", "dlgm.nf10.mnist")
        return Arm(self.arm_name(point), f"{self.name}: {', '.join(point)}", preset, settings)

    def arm_name(self, point: tuple[str, ...]) -> str:
        """Such as `binarisation/fixed/1600-400/K = 0`."""
        return "/".join((self.name, *point))

    def references(self, most: int | None = None) -> Iterator[Arm]:
        """The arms without a flow."""
        levels = self.factors[self.without] if self.without else {}
        for level in list(levels)[:most]:
            point = (_NO_FLOW, level)
            yield Arm(self.arm_name(point), f"{self.name}: {', '.join(point)}", "dlgm.dc.mnist", levels[level])

    def contrasts(self) -> Iterator[Contrast]:
        """Each arm against that which differs from it in one factor alone, and has the first level of that.

        Then each against that without a flow.
        """
        for place, (factor, levels) in enumerate(self.factors.items()):
            first = next(iter(levels))
            for point in self.points():
                if point[place] != first:
                    before, after = point[:place], point[place + 1 :]
                    names = self.arm_name(point), self.arm_name((*before, first, *after))
                    yield Contrast(factor, point[place], first, ", ".join(before + after), *names)
        if self.without:
            place = list(self.factors).index(self.without)
            for point in self.points():
                level = point[place]
                flow = ", ".join(point[:place] + point[place + 1 :])
                names = self.arm_name(point), self.arm_name((_NO_FLOW, level))
                yield Contrast("flow", flow, _NO_FLOW, level, *names)


_NO_FLOW = "no flow"
_PLANAR: dict[int, Settings] = {length: {"preset": f"dlgm.nf{length}.mnist"} for length in (10, 40, 80)}
_SOURCES: Levels = {"amortised": {}, "static": {"flow.parameters": "static"}}

ABLATIONS: tuple[Ablation, ...] = (
    Ablation(
        "binarisation",
        "Is it the binarisation or the reading of Maxout that puts the earlier reproduction 18 nats below the paper?",
        {
            "binarisation": {name: {"data.binarisation": name} for name in ("fixed", "threshold", "dynamic")},
            "maxout": {"1600-400": {"model.maxout": "1600-400"}, "400-100": {"model.maxout": "400-100"}},
            "K": {"K = 0": {"preset": "dlgm.dc.mnist"}, "K = 10": _PLANAR[10]},
        },
    ),
    Ablation(
        "source",
        "Must the inference network give the flow's parameters?",
        {"parameters": _SOURCES, "K": {"K = 10": _PLANAR[10], "K = 40": _PLANAR[40]}},
    ),
    Ablation(
        "init",
        "Does the initialisation of the flow matter, and does the optimiser hide it?",
        {
            "init": {name: {"flow.init": name} for name in ("identity", "xavier", "normal")},
            "parameters": _SOURCES,
            "optimiser": {
                "Adam 1e-3": {},
                "RMSprop 1e-4": {
                    "training.optimiser": "rmsprop",
                    "training.learning_rate": 1e-4,
                    "training.momentum": 0.9,
                },
            },
        },
        without="optimiser",
    ),
    Ablation(
        "invertibility",
        "The paper's constraint on planar layers, or one that leaves u = 0 the identity?",
        {
            "invertibility": {name: {"flow.invertibility": name} for name in ("paper", "centred")},
            "K": {"K = 10": _PLANAR[10], "K = 80": _PLANAR[80]},
        },
    ),
)

BUDGETS: Mapping[str, Budget] = {
    "smoke": Budget(
        "two levels of each factor, 20 updates, 100 test images, one seed: minutes",
        seeds=(0,),
        settings={"training.updates": 20, "training.warmup": 10, "training.validate_every": 20},
        tests=(Sampling(10, 100),),
    ),
    "short": Budget(
        "all grids, 10,000 updates, 3 seeds: half a day on two cores",
        seeds=(0, 1, 2),
        settings={"training.updates": 10_000},
    ),
}


def arms(budget: str) -> list[Arm]:
    """The arms of all ablations, one after the other."""
    most = 2 if budget == "smoke" else None
    made = []
    for each in ABLATIONS:
        made += [*(each.arm(point) for point in each.points(most)), *each.references(most)]
    return made
