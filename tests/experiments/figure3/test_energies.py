"""The four energies against values written out by hand, and how they are confined."""

from __future__ import annotations

import math

import pytest
import torch

from flowvi.experiments.figure3.energies import ENERGIES

E = math.e


@pytest.mark.parametrize(
    ("name", "z", "energy"),
    [
        # ‖z‖ = 2, on the right mode: −ln(1 + exp(−½(4/0.6)²))
        ("U1", (2.0, 0.0), -math.log1p(math.exp(-0.5 * (4 / 0.6) ** 2))),
        # ½(1.5/0.4)², ‖z‖ = 0.5, and both sides
        (
            "U1",
            (0.3, 0.4),
            0.5 * (1.5 / 0.4) ** 2 - math.log(math.exp(-0.5 * (1.7 / 0.6) ** 2) + math.exp(-0.5 * (2.3 / 0.6) ** 2)),
        ),
        ("U2", (1.0, 1.8), 0.5 * (0.8 / 0.4) ** 2),  # w1(1) = 1
        ("U2", (3.0, -1.0), 0.0),
        # w1(1) = 1, w2(1) = 3
        ("U3", (1.0, 1.0), -math.log(1 + math.exp(-0.5 * (3 / 0.35) ** 2))),
        ("U3", (1.0, -2.0), -math.log(1 + math.exp(-0.5 * (3 / 0.35) ** 2))),
        # w1(2) = 0, w2(2) = 3·exp(−½(1/0.6)²)
        ("U3", (2.0, 0.0), -math.log(1 + math.exp(-0.5 * (3 * math.exp(-0.5 / 0.36) / 0.35) ** 2))),
        # w1(1) = 1, w3(1) = 1.5
        ("U4", (1.0, 1.0), -math.log(1 + math.exp(-0.5 * (1.5 / 0.35) ** 2))),
        ("U4", (1.0, -0.5), -math.log(1 + math.exp(-0.5 * (1.5 / 0.4) ** 2))),
        # w1(−2) = 0, w3(−2) = 3/(1 + e¹⁰)
        ("U4", (-2.0, 0.4), -math.log(math.exp(-0.5) + math.exp(-0.5 * ((0.4 + 3 / (1 + E**10)) / 0.35) ** 2))),
    ],
)
def test_the_formulas(name: str, z: tuple[float, float], energy: float) -> None:
    point = torch.tensor(z, dtype=torch.float64)
    assert ENERGIES[name].potential(point).item() == pytest.approx(energy, abs=1e-12)
    assert ENERGIES[name].log_density(point).item() == pytest.approx(-energy, abs=1e-12)


@pytest.mark.parametrize("name", ENERGIES)
def test_confined_outside_the_box_alone(name: str) -> None:
    energy = ENERGIES[name]
    z = torch.tensor([[4.2, 0.0], [0.0, -4.3], [-4.1, 4.1], [4.0, -4.0]], dtype=torch.float64)
    walls = torch.tensor([0.5 * 4, 0.5 * 9, 0.5 * 2, 0.0], dtype=torch.float64)
    assert torch.allclose(-energy.log_density(z) - energy.potential(z), walls)


@pytest.mark.parametrize("name", ENERGIES)
def test_regions_do_not_overlap(name: str) -> None:
    z = 5 * torch.randn(1000, 2)
    where = [region(z) for region in ENERGIES[name].regions.values()]
    assert not (where[0] & where[1]).any()
    assert all(each.any() for each in where)


def test_branches_lie_about_the_waves() -> None:
    upper, lower = ENERGIES["U4"].regions["upper"], ENERGIES["U4"].regions["lower"]
    z = torch.tensor([[3.0, -1.0], [3.0, -4.0], [1.9, 0.0]])  # w1(3) = −1, w3(3) ≈ 3; the last is left of z1 = 2
    assert upper(z).tolist() == [True, False, False]
    assert lower(z).tolist() == [False, True, False]
