"""Every family of the registry, in every way to build it: a new family is tested by being registered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from flowvi.flows import FAMILIES, Flow, build


@dataclass(frozen=True)
class Case:
    """One way to build one family."""

    kind: str
    context: int
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.kind, *self.options.values(), "context" if self.context else "static"])

    def build(self, features: int, length: int, dtype: torch.dtype = torch.float64) -> Flow:
        """A flow as it starts."""
        layers = length if FAMILIES[self.kind].chain else 0
        return build(self.kind, features, self.context, layers, **self.options).to(dtype)

    def trained(self, features: int, length: int, dtype: torch.dtype = torch.float64) -> Flow:
        """A flow with every parameter, the base's too, moved away from where it starts."""
        flow = self.build(features, length, dtype)
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        return flow

    def given(self, *batch: int, dtype: torch.dtype = torch.float64) -> Tensor | None:
        """A context of this batch shape, or None."""
        return torch.randn(*batch, self.context, dtype=dtype) if self.context else None


def cases() -> Iterator[Case]:
    for kind, family in FAMILIES.items():
        for values in product(*(option.allowed for option in family.options.values())):
            options = dict(zip(family.options, values, strict=True))
            for context, sources in ((0, {"auto"}), (5, {"amortised", "static"})):  # the rest repeats these
                if options.get("parameters", "auto") in sources or not family.options:
                    yield Case(kind, context, options)


@pytest.fixture(params=cases(), ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


# As maps of one context, static layers below an amortised base repeat those below a learned one.
MAPS = [case for case in cases() if case.options.get("parameters") != "static"]


@pytest.fixture(params=MAPS, ids=str)
def mapping(request: pytest.FixtureRequest) -> Case:
    """The cases that differ as maps."""
    return request.param


@pytest.fixture(params=[case for case in MAPS if FAMILIES[case.kind].chain], ids=str)
def chained(request: pytest.FixtureRequest) -> Case:
    """Those that have bijections."""
    return request.param


@pytest.fixture(params=[case for case in cases() if case.options.get("init") == "identity"], ids=str)
def starting(request: pytest.FixtureRequest) -> Case:
    """Those whose chain is meant to start as the identity."""
    return request.param
