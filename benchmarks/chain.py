"""The planar chain alone: the image, the log-determinant and all gradients, by flowvi and by others.

Three forms, each compared within itself, because they are not the same work:

- *given*: the parameters, (B, K, 2D + 1), one chain for each point, are there as a tensor, and get a gradient;
- *static*: one chain for all points, (K, 2D + 1);
- *head*: the parameters of each point come from a linear map of a context of 400 units, whose weights, biases and
  input get gradients too. The head alone is timed as well.

All take part at D = 40 and B = 100. At other sizes, to save time, heads, torch.compile and what is slow among the
static ones do not.

Gradients are taken for random cotangents of both outputs. Before anything is timed, torch's contenders that compute the
same function are compared with the reference: image, log-determinant and gradients.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.measure import Contender, Job, compete
from benchmarks.other_process import Worker
from benchmarks.settings import Record, Settings
from flowvi.kernels import planar_forward, reference

LENGTHS, FEATURES, BATCHES = (1, 10, 40, 80, 160), (2, 40, 200), (100, 1000)
TINY_SIZES = ((2,), (3,), (4,))
CONTEXT = 400
MAIN = 40, 100
"""D and B of the comparison that all take part in."""
COMPILED_UP_TO = 80
"""torch.compile needs minutes for more layers: it unrolls them."""
CHECKED_UP_TO = 2_000_000
"""Numbers in all layers' images: above it, what is the same at smaller sizes is not compared again."""
TOLERANCE = 2e-3
"""Of a difference to the reference, relative to the largest number: float32 through many layers."""

CONTENDERS = {
    "flowvi": "flowvi.kernels.planar_forward, parameters given",
    "reference": "flowvi.kernels.reference.planar_forward, eager, parameters given",
    "compiled": "torch.compile(reference, dynamic=False, fullgraph=True), parameters given",
    "pyro": "pyro ConditionalPlanar × K, whose nn takes b, u, w from the given parameters",
    "flowjax": "flowjax Planar, scanned and vmapped under jit, parameters given; a process of its own",
    "flowvi static": "flowvi.kernels.planar_forward, one chain for all points",
    "reference static": "the eager reference, one chain for all points",
    "pyro static": "pyro Planar × K",
    "normflows static": "normflows Planar × K in a NormalizingFlow",
    "flowjax static": "flowjax planar_flow(invert=False) under jit, with its permutations; a process of its own",
    "flowvi head": "one nn.Linear(400, K(2D + 1)), then flowvi.kernels.planar_forward",
    "reference head": "the same head, then the eager reference",
    "pyro head": "pyro ConditionalPlanar × K, each with an nn.Linear(400, 2D + 1) of its own",
    "flowjax head": "flowjax planar_flow(invert=False, cond_dim=400, depth=0) under jit; a process of its own",
    "head alone": "nn.Linear(400, K(2D + 1)), forward and backward",
}
BASELINES = "flowvi", "flowvi static", "flowvi head"

Function = Callable[[], tuple[Tensor, ...]]


class Problem:
    """One size: points, parameters in the three forms, and the cotangents of the outputs."""

    def __init__(self, length: int, features: int, batch: int) -> None:
        generator = torch.Generator().manual_seed(length * 1_000_003 + features * 1009 + batch)
        size = 2 * features + 1
        self.length, self.features, self.batch = length, features, batch
        # so small a w that the chain stays near the identity, whatever its length: no number is special
        self.scale = 0.3 * features**-0.5

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        self.z = normal(batch, features).requires_grad_()
        self.given = (self.scale * normal(batch, length, size)).requires_grad_()
        self.shared = (self.scale * normal(length, size)).requires_grad_()
        self.cotangents = normal(batch, features), normal(batch)

    def job(self, function: Function, leaves: Sequence[Tensor]) -> Job:
        """Forward and backward."""
        return Job(lambda: self.gradient(function(), leaves))

    def gradient(self, outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Of the outputs' products with the cotangents; an output may be constant, such as a rotation's 0."""
        pairs = [(out, g) for out, g in zip(outputs, self.cotangents, strict=True) if out.requires_grad]
        return torch.autograd.grad([out for out, _ in pairs], leaves, [g for _, g in pairs])

    def given_by(self, chain: Callable[..., tuple[Tensor, Tensor]]) -> Function:
        """One of our functions on the given parameters."""
        return lambda: tuple(out[0] for out in chain(self.z[None], self.given, "paper"))

    def shared_by(self, chain: Callable[..., tuple[Tensor, Tensor]]) -> Function:
        """One of our functions with one chain for all points, in its own layout: (points, 1, D)."""
        return lambda: tuple(out[:, 0] for out in chain(self.z[:, None], self.shared[None], "paper"))


Made = tuple[str, Contender | str]


def measure(settings: Settings) -> dict[str, Any]:
    """All sizes; prints a line for each."""
    record = Record("chain", settings, "ms, forward + backward", CONTENDERS)
    lengths, features, batches = TINY_SIZES if settings.tiny else (LENGTHS, FEATURES, BATCHES)
    with Worker(settings.threads) as worker:
        for d, b, k in product(features, batches, lengths):
            problem = Problem(k, d, b)
            main = (d, b) == MAIN or settings.tiny
            contenders: dict[str, Contender] = {}
            for name, job in _contenders(problem, worker, main, settings.tiny):
                if isinstance(job, str):
                    record.lacks(name, job)
                else:
                    contenders[name] = job
            contest = compete(contenders, settings.effort(9.0) if main else settings.effort(2.0, slow=0.5))
            record.add({"K": k, "D": d, "B": b}, contest, BASELINES)
    return record.to_dict()


def _contenders(problem: Problem, worker: Worker, main: bool, tiny: bool) -> Iterator[Made]:
    yield from _given(problem, compiled=main and not tiny and problem.length <= COMPILED_UP_TO)
    yield from _static(problem, main)
    if main:
        yield from _heads(problem)
    for kind, name in (("given", "flowjax"), ("static", "flowjax static"), ("head", "flowjax head")):
        if kind != "head" or main:
            yield name, _there(worker, kind, problem)


def _given(problem: Problem, compiled: bool) -> Iterator[Made]:
    leaves = problem.z, problem.given
    truth = problem.given_by(reference.planar_forward)
    functions: dict[str, Function | str] = {"flowvi": problem.given_by(planar_forward), "reference": truth}
    if compiled:
        functions["compiled"] = problem.given_by(_compiled())
    chain = peers.missing("pyro-ppl") or peers.pyro_given(problem.length, problem.features)
    functions["pyro"] = chain if isinstance(chain, str) else partial(chain, *leaves)
    yield from checked(problem, functions, truth, leaves)


def _static(problem: Problem, main: bool) -> Iterator[Made]:
    leaves = problem.z, problem.shared
    truth = problem.shared_by(reference.planar_forward)
    functions: dict[str, Function | str] = {
        "flowvi static": problem.shared_by(planar_forward),
        **({"reference static": truth} if main else {}),
    }
    yield from checked(problem, functions, truth, leaves)
    # Peers hold their parameters in a module for each layer: gradients go there, so only the outputs are compared.
    if why := peers.missing("pyro-ppl"):
        yield "pyro static", why
    elif main:
        layers = peers.pyro_static(problem.shared)
        own = [problem.z, *layers.parameters()]
        # A view, because a layer that sees the same tensor again answers from its cache.
        functions = {"pyro static": lambda: peers.through(layers, problem.z.view_as(problem.z))}
        yield from checked(problem, functions, truth, own)
    if why := peers.missing("normflows"):
        yield "normflows static", why
    else:
        flow = peers.normflows_static(problem.shared)
        own = [problem.z, *flow.flows.parameters()]
        functions = {"normflows static": partial(flow.forward_and_log_det, problem.z)}
        yield from checked(problem, functions, truth, own)


def _heads(problem: Problem) -> Iterator[Made]:
    k, d, z = problem.length, problem.features, problem.z
    h = torch.randn(problem.batch, CONTEXT, requires_grad=True)
    head = nn.Linear(CONTEXT, k * (2 * d + 1))
    layers = peers.missing("pyro-ppl") or peers.pyro_heads(k, d, CONTEXT)
    _shrink([head] if isinstance(layers, str) else [head, *(layer.nn.linear for layer in layers)], problem.scale)
    leaves = [z, h, *head.parameters()]

    def by(chain: Callable[..., tuple[Tensor, Tensor]]) -> Function:
        return lambda: tuple(out[0] for out in chain(z[None], head(h).unflatten(-1, (k, 2 * d + 1)), "paper"))

    truth = by(reference.planar_forward)
    ours: dict[str, Function | str] = {"flowvi head": by(planar_forward), "reference head": truth}
    yield from checked(problem, ours, truth, leaves)
    if isinstance(layers, str):
        yield "pyro head", layers
    else:
        own = [z, h, *layers.parameters()]
        yield "pyro head", problem.job(partial(peers.pyro_conditioned, layers, z, h), own)
    cotangent = torch.randn(problem.batch, k * (2 * d + 1))
    yield "head alone", Job(lambda: torch.autograd.grad(head(h), leaves[1:], cotangent))


def _there(worker: Worker, kind: str, problem: Problem) -> Contender | str:
    if worker.absent:
        return worker.absent
    try:
        return worker.make(kind, K=problem.length, D=problem.features, B=problem.batch, C=CONTEXT)
    except RuntimeError as error:
        return f"failed: {error}"


def _compiled() -> Callable[..., tuple[Tensor, Tensor]]:
    torch._dynamo.reset()  # else the sizes before this one would make it compile for any size
    return torch.compile(reference.planar_forward, dynamic=False, fullgraph=True)


def _shrink(heads: Sequence[nn.Linear], scale: float) -> None:
    """Weights that give parameters of the same size as the given ones."""
    with torch.no_grad():
        for head in heads:
            head.weight.normal_(std=scale * CONTEXT**-0.5)
            head.bias.zero_()


def checked(
    problem: Problem, functions: dict[str, Function | str], truth: Function, leaves: Sequence[Tensor]
) -> Iterator[Made]:
    """Jobs of those that compute the reference's outputs, and z's gradient, within rounding; else what is wrong."""
    if problem.length * problem.features * problem.batch > CHECKED_UP_TO:
        for name, function in functions.items():
            yield name, function if isinstance(function, str) else problem.job(function, leaves)
        return
    expected = _outputs(problem, truth, [problem.z])
    for name, function in functions.items():
        if isinstance(function, str):
            yield name, function
            continue
        try:
            found = _outputs(problem, function, leaves)
        except Exception as error:  # a peer's or a compiler's own: the others are still to be timed
            yield name, f"failed: {type(error).__name__}: {error}"[:300]
            continue
        error = max(map(_difference, found, expected))
        right = error < TOLERANCE and all(bool(each.isfinite().all()) for each in found)
        yield name, problem.job(function, leaves) if right else f"differs from the reference by {error:.1e}"


def _outputs(problem: Problem, function: Function, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Image, log-determinant, the gradient of z, then those of the other leaves."""
    outputs = function()
    return [*(out.detach() for out in outputs), *problem.gradient(outputs, leaves)]


def _difference(found: Tensor, expected: Tensor) -> float:
    scale = max(expected.abs().max().item(), 1.0)
    return (found - expected).abs().max().item() / scale
