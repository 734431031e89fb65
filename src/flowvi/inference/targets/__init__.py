"""Targets with known answers, on which a fitted posterior is judged: `TARGETS`, by name.

Each has its exact ln Z and exact draws. Part of them is held out: thresholds are chosen on the others alone.
"""

from __future__ import annotations

from flowvi.inference.targets.registry import TARGETS
from flowvi.inference.targets.target import Difficulty, Mode, Target

__all__ = ["TARGETS", "Difficulty", "Mode", "Target"]
