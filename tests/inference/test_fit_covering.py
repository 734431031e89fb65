"""The end of a flow's fit: the forward divergence's loss against its own definition, and what covering gains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from flowvi.flows import Planar
from flowvi.inference.fitting import search as searching
from flowvi.inference.fitting.covering import cover, follow
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.effort import EFFORTS
from flowvi.inference.fitting.elbo import elbo
from flowvi.inference.fitting.joint import Joint
from flowvi.inference.fitting.located import Located
from flowvi.inference.fitting.optimise import Trace
from flowvi.inference.fitting.search import Search, starting_points
from flowvi.inference.fitting.weights import Pool, weigh
from flowvi.inference.targets import TARGETS

BRIEF = replace(EFFORTS["fast"], restarts=1, block=5, blocks=8, races=5, draws=2000)
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def funnel() -> Density:
    return Density(TARGETS["funnel_2"].log_density, Joint.of(2))


def pool(z: Tensor, log_f: Tensor) -> Pool:
    log_q = Normal(0.0, 1.0).log_prob(z).sum(-1)
    return Pool(z, log_f, log_q, log_q)


@PRECISIONS
def test_the_loss_is_the_cross_entropy_by_the_weights(dtype: torch.dtype) -> None:
    """Draws of N(0, 1) weighted for N(m, 1), whose weights have the effective share e^(−m²)."""
    m = 0.5
    torch.manual_seed(0)
    z = torch.randn(100_000, 1, dtype=dtype)
    loss = follow(pool(z, 7.0 + Normal(m, 1.0).log_prob(z).sum(-1)))
    assert loss is not None
    q = MultivariateNormal(torch.ones(1, dtype=dtype), 4 * torch.eye(1, dtype=dtype))
    cross = 0.5 * math.log(2 * math.pi * 4) + (1 + (m - 1) ** 2) / 8
    assert loss(q, 100_000).item() == pytest.approx(math.exp(-(m**2)) * cross, rel=0.01)


def test_one_heavy_point_is_followed_little() -> None:
    """Where a single point has all the weight, λ is 1/n."""
    z = torch.zeros(10_000, 1)
    z[0] = 5.0
    loss = follow(pool(z, torch.where(z[:, 0] > 0, 40.0, -math.inf)))
    assert loss is not None
    assert abs(loss(Normal(torch.zeros(1), torch.ones(1)), 50)).max() < 0.01


@pytest.mark.parametrize("value", [-math.inf, math.nan, math.inf])
def test_without_a_weight_there_is_nothing_to_follow(value: float) -> None:
    assert follow(pool(torch.randn(50, 2), torch.full((50,), value))) is None


def test_points_where_the_posterior_is_nought_leave_the_others_their_gradient() -> None:
    torch.manual_seed(0)
    points = torch.cat([torch.zeros(25, 1), torch.full((25, 1), 1e30)])
    loss = follow(Pool(points, torch.zeros(50), torch.zeros(50), torch.zeros(50)))
    scale = torch.ones((), requires_grad=True)

    class Narrow:
        def log_prob(self, z: Tensor) -> Tensor:
            return -((z / scale) ** 2).sum(-1) / 2 - scale.log()

    assert loss is not None
    found = loss(Narrow(), 40)
    assert found is not None and found.isfinite()
    found.backward()
    assert scale.grad is not None and 0 < scale.grad < 1
    nowhere = follow(Pool(points[25:], torch.zeros(25), torch.zeros(25), torch.zeros(25)))
    assert nowhere is not None and nowhere(Narrow(), 8) is None


def test_a_narrow_posterior_widens() -> None:
    torch.manual_seed(0)
    density = Density(lambda z: -z.square().sum(-1) / 2, Joint.of(2))
    module = Located(Planar(2, length=2), torch.zeros(2), 0.5 * torch.eye(2))
    before = weigh(module, density, 4000)
    trace = cover(module, density, replace(BRIEF, block=15, blocks=20))
    after = weigh(module, density, 4000)
    assert trace.steps == 225 and len(trace.blocks) == 15
    assert before.lacking > 0.05 > 0.005 > after.lacking
    assert abs(elbo(module(), density, 4000).mean - math.log(2 * math.pi)) < 0.02


def test_ctrl_c_keeps_the_last_block() -> None:
    torch.manual_seed(0)
    density = Density(lambda z: -z.square().sum(-1) / 2, Joint.of(2))
    module = Located(Planar(2, length=2), torch.zeros(2), 0.5 * torch.eye(2))
    states: list[Any] = []

    def report(_: object) -> None:
        states.append({name: value.clone() for name, value in module.state_dict().items()})
        if len(states) == 2:
            raise KeyboardInterrupt

    trace = cover(module, density, BRIEF, report)
    assert trace.interrupted and len(trace.blocks) == 2
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, states[1][name])


def searched(monkeypatch: pytest.MonkeyPatch, teach: Callable[..., Trace]) -> Search:
    """A brief search on the funnel, whose flow is given to `teach` as if it had won."""
    monkeypatch.setattr(searching, "winner", lambda stages: stages[-1])
    monkeypatch.setattr(searching, "cover", teach)
    torch.manual_seed(0)
    search = Search(funnel(), BRIEF, [lambda: Planar(2, length=4)])
    search.run(starting_points(funnel(), 2, torch.zeros(())))
    return search


def test_a_flow_that_loses_elbo_by_it_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(module: Located, *_: object) -> Trace:
        with torch.no_grad():
            module.log_diagonal.add_(1.0)
        return Trace(steps=7)

    left = searched(monkeypatch, lambda *_: Trace(steps=7)).stages[-1]
    spoiled = searched(monkeypatch, spoil).stages[-1]
    assert spoiled.found.inside == pytest.approx(left.found.inside, abs=0.15)
    assert spoiled.trace.steps == left.trace.steps - 7
    torch.testing.assert_close(spoiled.module.log_diagonal, left.module.log_diagonal)
    assert not any(parameter.requires_grad for parameter in spoiled.module.parameters())


def test_a_flow_that_leaves_the_density_by_it_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(module: Located, *_: object) -> Trace:
        with torch.no_grad():
            module.shift.add_(1e30)
        return Trace(steps=7)

    found = searched(monkeypatch, leave).stages[-1].found
    assert math.isfinite(found.inside) and found.share == 1


def test_ctrl_c_while_it_is_measured_leaves_the_flow_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def spoil(module: Located, *_: object) -> Trace:
        with torch.no_grad():
            module.log_diagonal.add_(1.0)
        monkeypatch.setattr(searching, "elbo", interrupt)
        return Trace()

    search = searched(monkeypatch, spoil)
    stage = search.stages[-1]
    assert search.interrupted
    assert elbo(stage.module(), search.density, 2000).mean == pytest.approx(stage.found.mean, abs=0.3)


def test_a_flow_that_loses_its_place_by_it_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    best = iter([-1, 0])
    monkeypatch.setattr(searching, "cover", lambda *_: Trace(steps=7))
    torch.manual_seed(0)
    search = Search(funnel(), BRIEF, [])
    for name in ("full-rank", "flow"):
        search._stage(name, Located(Planar(2, length=2), torch.zeros(2), torch.eye(2)))
    monkeypatch.setattr(searching, "winner", lambda stages: stages[next(best)])
    before = search.stages[-1]
    search._cover()
    assert search.stages[-1] is before and not list(best)


def test_the_restart_is_that_of_the_flow_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    search = searched(monkeypatch, lambda *_: Trace())
    flows = [restart for restart in search.restarts if restart.kind == "flow"]
    assert len(flows) == 1 and flows[0].found is search.stages[-1].found


def test_an_interrupted_one_is_a_search_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    search = searched(monkeypatch, lambda *_: Trace(interrupted=True))
    assert search.interrupted and search.stages[-1].trace.interrupted


def test_what_is_exact_already_is_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Trace:
        raise AssertionError

    monkeypatch.setattr(searching, "cover", never)
    torch.manual_seed(0)
    density = Density(lambda z: -z.square().sum(-1) / 2, Joint.of(2))
    search = Search(density, BRIEF, [lambda: Planar(2, length=2)])
    search.run(starting_points(density, 2, torch.zeros(())))
    assert not search.interrupted and len(search.stages) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["funnel_2", "eight_schools_noncentred"])
def test_the_weights_gain(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More draws are effective, the mass that lacks is less, and no ELBO is lost beyond what a flow must bring."""
    target = TARGETS[name]
    density = Density(target.log_density, Joint.of(target.supports or target.dim))
    found = []
    for teach in (lambda *_: Trace(), cover):
        monkeypatch.setattr(searching, "cover", teach)
        torch.manual_seed(1)
        search = Search(density, EFFORTS["fast"], [lambda: Planar(density.joint.size, length=16)])
        search.run(starting_points(density, 4, torch.zeros(())))
        found.append((search.stages[-1].found.inside, weigh(search.stages[-1].module, density, 20_000)))
    (elbo_before, before), (elbo_after, after) = found
    assert elbo_after > elbo_before - 0.02
    assert after.effective > before.effective and after.lacking < before.lacking
