"""Flows that nflows, zuko, normflows and pyro have too: forward and backward at D = 40, B = 100.

- Householder: 80 reflections for all points; nflows has them as `HouseholderSequence`, whose default vectors are
  replaced by ours.
- radial: 80 layers; pyro's `ConditionalRadial` with parameters given for each point, normflows' `Radial` for all
  points, whose radius is parameterised otherwise.
- RealNVP: a sample and its density from 10 couplings with two hidden layers of 64 units; zuko's has ReLU where ours has
  tanh. nflows' has residual networks, and is left out.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.chain import Function, Made, Problem, checked
from benchmarks.measure import Contender, Job, compete
from benchmarks.settings import Record, Settings
from flowvi.flows import RealNVP
from flowvi.flows.zuko import zuko_flows
from flowvi.kernels import householder_forward, radial_forward, reference

FEATURES, BATCH, LENGTH, COUPLINGS = 40, 100, 80, 10
CONTENDERS = {
    "flowvi householder": "flowvi.kernels.householder_forward, one chain for all points",
    "nflows householder": "nflows HouseholderSequence",
    "flowvi radial": "flowvi.kernels.radial_forward, parameters given",
    "pyro radial": "pyro ConditionalRadial × K, whose nn takes its parameters from the given ones",
    "flowvi radial static": "flowvi.kernels.radial_forward, one chain for all points",
    "normflows radial static": "normflows Radial × K in a NormalizingFlow",
    "flowvi realnvp": "flowvi.flows.RealNVP, rsample_and_log_prob",
    "zuko realnvp": "zuko.flows.RealNVP, rsample_and_log_prob",
}
BASELINES = "flowvi householder", "flowvi radial", "flowvi radial static", "flowvi realnvp"


def measure(settings: Settings) -> dict[str, Any]:
    """All of them in one contest; prints a line."""
    record = Record("others", settings, "ms, forward + backward", CONTENDERS)
    length, features, batch = (2, 4, 5) if settings.tiny else (LENGTH, FEATURES, BATCH)
    problem = Problem(length, features, batch)
    contenders: dict[str, Contender] = {}
    for name, job in [*_householder(problem), *_radial(problem), *_realnvp(problem)]:
        if isinstance(job, str):
            record.lacks(name, job)
        else:
            contenders[name] = job
    contest = compete(contenders, settings.effort(15.0))
    record.add({"K": length, "D": features, "B": batch}, contest, BASELINES)
    return record.to_dict()


def _householder(problem: Problem) -> Iterator[Made]:
    z = problem.z
    vectors = torch.randn(problem.length, problem.features, requires_grad=True)

    def by(chain: Any) -> Function:
        return lambda: tuple(out[:, 0] for out in chain(z[:, None], vectors[None]))

    truth = by(reference.householder_forward)
    yield from checked(problem, {"flowvi householder": by(householder_forward)}, truth, [z, vectors])
    if why := peers.missing("nflows"):
        yield "nflows householder", why
        return
    from nflows.transforms import HouseholderSequence

    sequence = HouseholderSequence(problem.features, 2)
    sequence.num_transforms, sequence.q_vectors = problem.length, nn.Parameter(vectors.detach().clone())
    yield from checked(problem, {"nflows householder": partial(sequence, z)}, truth, [z, sequence.q_vectors])


def _radial(problem: Problem) -> Iterator[Made]:
    z, d = problem.z, problem.features
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(problem.batch, problem.length, d + 2, generator=generator).requires_grad_()
    shared = given.detach()[0].clone().requires_grad_()

    def pyro() -> tuple[Tensor, Tensor]:
        rows = given.unbind(1)
        return peers.through([layer.condition(row) for layer, row in zip(layers, rows, strict=True)], z)

    functions: dict[str, Function | str] = {
        "flowvi radial": lambda: tuple(out[0] for out in radial_forward(z[None], given)),
        "pyro radial": peers.missing("pyro-ppl") or pyro,
    }
    if not peers.missing("pyro-ppl"):
        from pyro.distributions.transforms import ConditionalRadial

        layers = [ConditionalRadial(lambda row: row.split([d, 1, 1], dim=-1)) for _ in range(problem.length)]

    def truth() -> tuple[Tensor, ...]:
        return tuple(out[0] for out in reference.radial_forward(z[None], given))

    yield from checked(problem, functions, truth, [z, given])

    def ours() -> tuple[Tensor, ...]:
        return tuple(out[:, 0] for out in radial_forward(z[:, None], shared[None]))

    yield "flowvi radial static", problem.job(ours, [z, shared])
    if why := peers.missing("normflows"):
        yield "normflows radial static", why
        return
    import normflows

    layers_of_normflows = [normflows.flows.Radial((d,), z_0=row[None, :d].clone()) for row in shared.detach()]
    flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(d), layers_of_normflows)
    yield "normflows radial static", problem.job(lambda: flow.forward_and_log_det(z), [z, *flow.flows.parameters()])


def _realnvp(problem: Problem) -> Iterator[Made]:
    sizes: dict[str, Any] = {"features": problem.features}
    ours = RealNVP(**sizes, length=COUPLINGS, hidden=(64, 64), init="xavier")
    yield "flowvi realnvp", _sampling(ours, problem)
    if why := peers.missing("zuko"):
        yield "zuko realnvp", why
        return
    flows = zuko_flows()  # which leaves torch.distributions as it was
    yield (
        "zuko realnvp",
        _sampling(flows.RealNVP(**sizes, transforms=COUPLINGS, hidden_features=(64, 64)), problem),
    )


def _sampling(flow: nn.Module, problem: Problem) -> Job:
    parameters = [p for p in flow.parameters() if p.requires_grad]

    def run() -> object:
        outputs = flow().rsample_and_log_prob((problem.batch,))
        return torch.autograd.grad(outputs, parameters, problem.cotangents)

    return Job(run)
