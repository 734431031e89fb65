"""The settings of training on the plane, and what they were chosen by. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Scheme"]


@dataclass(frozen=True)
class Scheme:
    """A way of training; the defaults are those of all 2-D experiments, and find all modes.

    Planar flows, K = 32, ten restarts of 3000 updates: in how many both modes had within 30 % of their true mass (U1's
    halves; U4's branches at z1 > 2), and the median KL(q‖p) in nats.

    =====================================================================  ============  ============
    training                                                               U1            U4
    =====================================================================  ============  ============
    Adam 5e-3 with a cosine decay, 256 independent points, no annealing    9/10, 0.010   0/10, 0.294
    β from 0.01 to 1 over the first half (the paper's, faster)             10/10, 0.010  9/10, 0.163
    the same, points on a shifted lattice                                  10/10, 0.005  10/10, 0.072
    the same, Adam 2e-2 with each restart's gradient of norm at most 10    10/10, 0.007  10/10, 0.020
    =====================================================================  ============  ============

    Without annealing the flow settles in the first branch that it meets: KL(q‖p) asks for no more. At a small β it
    covers the box, and the modes condense out of that. The lattice takes most of the noise out of the gradient. A start
    at N(0, 4I) brought nothing (U4: 0.098 in place of 0.072).

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
