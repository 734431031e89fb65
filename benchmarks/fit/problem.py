"""What is fitted, and what a contender ends with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.joint import Joint
from flowvi.inference.targets import TARGETS, Target


@dataclass(frozen=True)
class Problem:
    """A target, and its log density over unconstrained points (n, D), ln|det| included: the same for everyone."""

    target: Target
    joint: Joint
    density: Density

    @classmethod
    def of(cls, name: str) -> Problem:
        target = TARGETS[name]
        joint = Joint.of(target.supports or target.dim)
        return cls(target, joint, Density(target.log_density, joint))


@dataclass(frozen=True)
class Outcome:
    """A contender's answer."""

    seconds: float
    """Of the process's CPU time."""
    points: int
    """Evaluations of the log density."""
    sample: Callable[[int], Any]
    """n -> draws by parameter, n of them, or fewer where there are no more."""
    log_weights: Callable[[int], Tensor] | None = None
    """n -> ln f − ln q at n fresh draws of q; None where there is no density q."""
    more: Mapping[str, Any] = field(default_factory=dict)


class Clock:
    """CPU seconds of this process since it was made, out of so many. The wall's would be a neighbour's, too."""

    def __init__(self, budget: float) -> None:
        self.budget, self.started = budget, time.process_time()

    @property
    def spent(self) -> float:
        return time.process_time() - self.started

    @property
    def over(self) -> bool:
        return self.spent >= self.budget
