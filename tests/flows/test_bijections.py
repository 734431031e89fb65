"""Maps, their log-determinants and inverses: the audit's properties of one point, on every registered family."""

from __future__ import annotations

import pytest
import torch

from flowvi.flows.audit import PROPERTIES, Sizes, Subject, audit, registered, settings
from flowvi.flows.audit.objects import compiled
from flowvi.flows.audit.states import setting

DENSITIES = {"integral", "own samples", "derivative", "gradients"}  # of tests/flows/test_densities.py
COMPILED = {"planar", "radial", "iaf", "planar+radial"}  # the rest takes long
BOUNDED = {"gaussian", "planar", "radial", "householder", "nice", "realnvp", "sylvester"}  # what a layer does
LONG = [Sizes((2,), (80,)), Sizes((40,), (8,)), Sizes((40,), (80,))]


def checks() -> list[object]:
    """Each property with each subject that it applies to."""
    return [
        pytest.param(name, subject, id=f"{name}-{subject}".replace(" ", "-"), marks=marks(name, subject))
        for subject in registered()
        for name in PROPERTIES
        if name not in DENSITIES and any(True for _ in settings(name, subject, Sizes()))
    ]


def marks(name: str, subject: Subject) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if name == "compile" and subject.name not in COMPILED else []


@pytest.mark.parametrize(("name", "subject"), checks())
def test_property(name: str, subject: Subject) -> None:
    (row,) = audit([subject], Sizes(), names=[name])
    assert not row.broken, "\n".join(row.broken)
    if name == "hostile" and subject.name in BOUNDED:  # no answer may leave the floats, nor be excused as beyond
        assert all(finding.beyond == 0 for found in row.findings[name].values() for finding in found)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", LONG, ids=lambda sizes: f"D={sizes.features[0]}-K={sizes.lengths[0]}")
@pytest.mark.parametrize("name", [name for name in PROPERTIES if name != "integral"])
@pytest.mark.parametrize("subject", list(registered()), ids=lambda subject: str(subject).replace(" ", "-"))
def test_property_of_long_chains_and_many_dimensions(name: str, subject: Subject, sizes: Sizes) -> None:
    (row,) = audit([subject], sizes, names=[name])
    assert not row.broken, "\n".join(row.broken)


@pytest.mark.slow
def test_the_default_compiler_gives_eager_modes_numbers() -> None:
    (subject,) = [subject for subject in registered() if str(subject) == "planar amortised"]
    finding = compiled(setting(subject, 2, 8, "moderate"), torch.float32, backend="inductor")
    assert finding.holds, finding
