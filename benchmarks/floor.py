"""What no implementation of the same model can do without: its matrix products, and the optimiser's update.

The products are read off the model itself: every linear layer that a step runs, at the shapes and in the dtype that it
ran in. Each is done as one product into memory that is there already, without its bias: forward; the gradient of the
weight; and the gradient of the input, but for the first layer, whose input is data. The update is torch's fused one on
the model's own parameters.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmarks.measure import Job
from flowvi.experiments.engine import Engine

CHUNK = 5000
"""Rows that `importance_sampling` has at a time, if it is told nothing else."""


@dataclass(frozen=True)
class Product:
    """A linear layer as it ran: rows of its input, its sizes, its dtype, whether its input needs a gradient."""

    rows: int
    inputs: int
    outputs: int
    dtype: torch.dtype
    inner: bool

    def forward(self) -> Callable[[], object]:
        """x·Wᵀ."""
        x, weight, out = self._new(self.rows, self.inputs), self._new(self.outputs, self.inputs), self._out()
        return partial(torch.mm, x, weight.t(), out=out)

    def backward(self) -> list[Callable[[], object]]:
        """gᵀ·x, and g·W where it is needed."""
        g, x = self._out().normal_(), self._new(self.rows, self.inputs)
        calls: list[Callable[[], object]] = [partial(torch.mm, g.t(), x, out=self._new(self.outputs, self.inputs))]
        if self.inner:
            out = self._new(self.rows, self.inputs)
            calls.append(partial(torch.mm, g, self._new(self.outputs, self.inputs), out=out))
        return calls

    def _new(self, *shape: int) -> Tensor:
        return torch.randn(*shape).to(self.dtype)

    def _out(self) -> Tensor:
        return torch.empty(self.rows, self.outputs, dtype=self.dtype)


def products_of(module: nn.Module, run: Callable[[], object]) -> list[Product]:
    """The products of the linear layers that `run` runs, in order.

    Raises:
        RuntimeError: some of the module's matrices took part in another way: then this list is not all.
    """
    watch = _Watch()
    with watch:
        run()
    matrices = sum(parameter.dim() == 2 for parameter in module.parameters())
    if len(watch.weights) != matrices:
        found = len(watch.weights)
        raise RuntimeError(f"{found} linear layers ran, but there are {matrices} matrices: the floor would be low")
    return watch.seen


class _Watch(TorchFunctionMode):
    """Notes every linear layer that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Product] = []
        self.weights: set[int] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if function is torch.nn.functional.linear:
            x, weight = args[:2]
            self.seen.append(Product(prod(x.shape[:-1]), x.shape[-1], out.shape[-1], out.dtype, x.requires_grad))
            self.weights.add(id(weight))
        return out


def step_floor(engine: Engine, update: bool = True) -> Job:
    """The floor of the engine's training step; without `update`, the products alone."""
    x = engine.dataset.train.batch(torch.arange(engine.config.training.batch))
    beta = torch.ones(())
    products = products_of(engine.model, lambda: engine.module(x, beta))
    calls = [product.forward() for product in products]
    calls += [call for product in reversed(products) for call in product.backward()]
    if update:
        calls.append(_fused_update(engine))
    return _job(calls)


def decoder_floor(model: Any, rows: int, units: int) -> Job:
    """The decoder's products for so many rows in all, which are `units` images, in the estimator's whole chunks."""
    chunk = min(rows, CHUNK)
    z = torch.zeros(chunk, model.latents[0])
    with torch.no_grad():
        products = products_of(model.decoder, lambda: model._decode(z))
    calls = [product.forward() for product in products] * max(1, round(rows / chunk))
    return _job(calls, units)


def _fused_update(engine: Engine) -> Callable[[], object]:
    """torch's fused optimiser on tensors like the model's: Adam, which the protocol uses."""
    parameters = [torch.zeros_like(p).normal_().requires_grad_() for p in engine.model.parameters()]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter).normal_()
    return torch.optim.Adam(parameters, 1e-4, fused=True).step


def _job(calls: list[Callable[[], object]], units: int = 1) -> Job:
    def run() -> None:
        with torch.no_grad():
            for call in calls:
                call()

    return Job(run, units)
