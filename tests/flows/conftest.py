"""What the audit lists, as fixtures: a new family is tested by being registered."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from flowvi.flows import FAMILIES, Flow
from flowvi.flows.audit import Subject, find
from flowvi.flows.audit.states import randomise


@dataclass(frozen=True)
class Case:
    """One way to build one family, static or amortised, or with static layers on an amortised base."""

    subject: Subject

    def __str__(self) -> str:
        return str(self.subject).replace(" ", "-")

    @property
    def context(self) -> int:
        return self.subject.context

    def build(self, features: int, length: int, dtype: torch.dtype = torch.float64) -> Flow:
        """A flow as it starts."""
        return self.subject.build(features, length).to(dtype)

    def moved(self, features: int, length: int, dtype: torch.dtype = torch.float64) -> Flow:
        """A flow with every parameter, the base's too, away from where it starts."""
        flow = self.build(features, length, torch.float32)
        randomise(flow, 0.3)
        return flow.to(dtype)

    def given(self, *batch: int, dtype: torch.dtype = torch.float64) -> Tensor | None:
        """A context of this batch shape, or None."""
        return torch.randn(*batch, self.context, dtype=dtype) if self.context else None


def cases() -> list[Case]:
    """Every kind as it is by default, and a composition."""
    found = []
    for kind in (*FAMILIES, "planar+full_rank"):
        found += [Case(subject) for subject in find(kind, {})]
        if kind != "gaussian":
            found += [Case(subject) for subject in find(kind, {"parameters": "static"}) if subject.context]
    return found


@pytest.fixture(params=cases(), ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=[case for case in cases() if case.subject.chain], ids=str)
def chained(request: pytest.FixtureRequest) -> Case:
    """Those whose layers can be counted."""
    return request.param
