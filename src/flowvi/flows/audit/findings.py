"""What a property finds: the largest error, how it compares with its bound, and the points it could not judge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one property.

    Attributes:
        error: the largest seen; infinite where a number was not finite, or an exception was raised.
        ratio: the largest of error over bound: above 1 the property is broken.
        beyond: points that were left out, because rounding alone may be larger than any bound there.
        points: how many there were in all.
        note: what went wrong, in words, where numbers do not say it.

    Example:
        >>> Finding.of(torch.tensor([1e-9, 3e-9]), bound=1e-8).holds
        True
    """

    error: float
    ratio: float
    beyond: int = 0
    points: int = 0
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether every error was within its bound."""
        return self.ratio <= 1

    @classmethod
    def of(cls, error: Tensor, bound: Tensor | float, good: Tensor | None = None) -> Finding:
        """From the error at each point, its bound, and the points that are to be judged (all)."""
        error = error.detach().double().flatten()
        good = torch.ones_like(error, dtype=torch.bool) if good is None else good.flatten()
        limit = torch.as_tensor(bound, dtype=torch.float64).flatten().expand_as(error)[good]
        judged = torch.where(error.isfinite(), error, math.inf)[good]
        beyond, points = int((~good).sum()), error.numel()
        if not len(judged):
            return cls(0.0, 0.0, beyond, points)
        ratio = torch.where(judged == 0, 0.0, (judged / limit).nan_to_num(torch.inf))
        return cls(judged.max().item(), ratio.max().item(), beyond, points)

    @classmethod
    def count(cls, wrong: int, points: int, note: str = "", beyond: int = 0) -> Finding:
        """From a number of things that are wrong, of which there should be none."""
        return cls(float(wrong), math.inf if wrong else 0.0, beyond, points, note if wrong else "")

    @classmethod
    def worst(cls, findings: list[Finding]) -> Finding:
        """All of them as one."""
        if not findings:
            return cls(0.0, 0.0)
        note = max(findings, key=lambda finding: finding.ratio).note
        return cls(
            max(finding.error for finding in findings),
            max(finding.ratio for finding in findings),
            sum(finding.beyond for finding in findings),
            sum(finding.points for finding in findings),
            note,
        )
