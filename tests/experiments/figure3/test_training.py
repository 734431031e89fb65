"""Restarts run together come out as they do alone, and training does what its settings say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from flowvi.experiments.figure3.cells import FLOWS
from flowvi.experiments.figure3.energies import ENERGIES, Energy
from flowvi.experiments.figure3.quadrature import stable
from flowvi.experiments.figure3.restarts import Restarts
from flowvi.experiments.figure3.scheme import Scheme
from flowvi.experiments.figure3.training import lattice, train

SHORT = Scheme(updates=12, batch=16)
POINTS = torch.cartesian_prod(torch.linspace(-2, 2, 9), torch.linspace(-2, 2, 9))


@pytest.mark.parametrize("flow", FLOWS)
def test_restarts_together_equal_restarts_alone(flow: str) -> None:
    kind, options = FLOWS[flow].kind, FLOWS[flow].options
    together = train(kind, 3, ENERGIES["U3"], [0, 4, 7], SHORT, **options)
    alone = train(kind, 3, ENERGIES["U3"], [4], SHORT, **options)
    other, same, lone = (flows().log_prob(POINTS) for flows in (together.flow(0), together.flow(1), alone.flow(0)))
    # Adam makes whole steps of gradients that are nothing but rounding, as some of a Sylvester flow's are at first
    assert (same - lone).abs().mean() < 0.01
    assert (same - other).abs().mean() > 0.05


@pytest.mark.parametrize("flow", FLOWS)
def test_the_pushes_of_a_batch_are_those_of_its_flows(flow: str) -> None:
    flows = Restarts(FLOWS[flow].kind, 3, [1, 2], **FLOWS[flow].options, init="xavier")
    noise = torch.randn(10, 2, 2)
    z, log_q = flows.push(noise)
    for restart in (0, 1):
        own_z, own_log_q = flows.flow(restart)().push(noise[:, restart])
        assert torch.allclose(z[:, restart], own_z, atol=1e-5)
        assert torch.allclose(log_q[:, restart], own_log_q, atol=1e-5)


@pytest.mark.parametrize("flow", FLOWS)
def test_every_parameter_is_trained(flow: str) -> None:
    kind, options = FLOWS[flow].kind, FLOWS[flow].options
    before = Restarts(kind, 3, [0], **options)
    after = train(kind, 3, ENERGIES["U1"], [0], SHORT, **options)
    still = [name for name, value in before.parameters.items() if torch.equal(value, after.parameters[name])]
    assert not still


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    train("planar", 2, ENERGIES["U1"], [0, 1], SHORT)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_learns() -> None:
    energy = ENERGIES["U2"]
    q = train("planar", 4, energy, [0], Scheme(updates=300, batch=64)).flow(0).double()()
    found, _ = stable(q.log_prob, energy.log_density, energy.regions)
    assert found.kl < 1.2  # 2.0 for the best Gaussian with a diagonal covariance
    assert abs(1 - found.mass) < 1e-4


def test_beta_and_the_learning_rate() -> None:
    scheme = Scheme(updates=100, learning_rate=0.2, annealed=0.5, beta=0.01)
    assert [scheme.beta_at(update) for update in (0, 25, 50, 99)] == pytest.approx([0.01, 0.505, 1.0, 1.0])
    assert [scheme.rate_at(update) for update in (0, 50, 100)] == pytest.approx([0.2, 0.1, 0.0])
    assert replace(scheme, annealed=0.0).beta_at(0) == 1.0


@pytest.mark.parametrize("count", [64, 256])
def test_the_lattice_is_even(count: int) -> None:
    points = lattice(count)
    assert points.shape == (count, 2)
    for axis in (0, 1):
        assert (points[:, axis].sort().values.diff() < 3 / count).all()
    boxes = (points * 8).long()
    counts = torch.bincount(boxes[:, 0] * 8 + boxes[:, 1], minlength=64)
    assert counts.max() - counts.min() <= 3


def test_noise_may_be_independent() -> None:
    a, b = (train("planar", 1, ENERGIES["U1"], [0], replace(SHORT, lattice=lattice)) for lattice in (True, False))
    assert not torch.equal(*(flows.flow(0).base.location for flows in (a, b)))


def test_a_gradient_that_blows_up_is_shortened_for_its_restart_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    steps = torch.optim.Adam.step

    def step(self: Any, *arguments: Any) -> Any:
        gradients = [value.grad.flatten(1) for group in self.param_groups for value in group["params"]]
        seen.append(torch.cat(gradients, 1).norm(dim=1))
        return steps(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    train("planar", 2, ENERGIES["U1"], [0, 1], replace(SHORT, annealed=0.0, largest_norm=1.0))
    assert torch.stack(seen).max() <= 1.0 + 1e-5


def test_a_free_energy_that_is_not_finite() -> None:
    from flowvi.errors import NonFiniteError

    nowhere = Energy("U0", lambda z: z.sum(-1) / 0, {})
    with pytest.raises(NonFiniteError, match="planar K = 2 on U0: the free energy at update 0 is not finite"):
        train("planar", 2, nowhere, [0], SHORT)
