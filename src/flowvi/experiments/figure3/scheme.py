"""The settings of training on the plane, and why they are what they are. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Scheme"]


@dataclass(frozen=True)
class Scheme:
    """A way of training; the defaults are those of all 2-D experiments.

    Attributes:
        updates: of Adam.
        batch: points for each restart and update.
        learning_rate: at first; a cosine takes it to 0.
        annealed: the share of the updates over which β goes from `beta` to 1, in a straight line; 0 for none.
        beta: the first β, which multiplies ln p̃.
        lattice: whether the points are a randomly shifted lattice, else independent draws.
        largest_norm: of a restart's gradient; a larger one is shortened.
    """

    updates: int = 3000
    batch: int = 256
    learning_rate: float = 2e-2
    annealed: float = 0.5
    beta: float = 0.01
    lattice: bool = True
    largest_norm: float = 10.0

    def beta_at(self, update: int) -> float:
        """β at an update, the first of which is 0."""
        done = update / (self.annealed * self.updates) if self.annealed else 1.0
        return min(1.0, self.beta + (1 - self.beta) * done)

    def rate_at(self, update: int) -> float:
        """The learning rate at an update."""
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * update / self.updates))
