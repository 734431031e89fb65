"""Gradients: right, finite, and there for every number that the density depends on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from flowvi.flows.audit.findings import Finding
from flowvi.flows.audit.maps import LARGEST
from flowvi.flows.audit.states import Setting
from flowvi.flows.flow import Flow, Link
from flowvi.flows.parameters import ParametricChain

__all__ = ["differences", "idle", "reach"]

_JUDGED = 4
_STEP = 5e-5
_BOUND = 1e-5
_CONTEXTS = 6


def differences(setting: Setting, dtype: torch.dtype) -> Finding:
    """The gradient of log_prob by point and parameters, through the inverse, against central differences.

    |Δ|/(1 + |derivative|) ≤ 1e-5 along random directions, where κ < 1e4 and differences of two steps agree: across a
    kink (of a leaky ReLU) there is no derivative, and the point is left out.
    """
    flow = setting.flow(dtype)
    context = None if setting.context is None else setting.context.to(dtype)
    points = setting.q(dtype).push(setting.noise[:_JUDGED].to(dtype))[0]
    scorer = _Scorer(flow)
    names, start = zip(*scorer.named_parameters(), strict=True)
    at = [points, *(value.detach() for value in start)]

    def score(*values: Tensor) -> Tensor:
        log_prob: Tensor = functional_call(scorer, dict(zip(names, values[1:], strict=True)), (values[0], context))
        return log_prob

    way = [setting.draw(f"direction {i}", *value.shape).to(dtype) for i, value in enumerate(at)]
    size = torch.cat([part.flatten() for part in way[1:]]).norm()
    way = [3 * way[0], *(3 * part / size for part in way[1:])]
    exact = _along(score, at, way)
    fine, coarse = _differences(score, at, way)
    scale = 1 + exact.abs()
    good = (setting.kappa[:_JUDGED] < 1e4) & ~((coarse - fine).abs() > 0.5 * _BOUND * scale)
    return Finding.of((fine - exact).abs() / scale, _BOUND, good)


class _Scorer(nn.Module):
    """log_prob as a module's call, for layers use the weights that they have when they are applied."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, points: Tensor, context: Tensor | None) -> Tensor:
        log_prob: Tensor = self.flow(context).log_prob(points)
        return log_prob


def _along(score: Any, at: list[Tensor], way: list[Tensor]) -> Tensor:
    """The derivative of each point's score along `way`, by backpropagation."""
    leaves = [value.clone().requires_grad_() for value in at]
    found = []
    for value in score(*leaves).unbind():
        gradients = torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True)
        found.append(torch.stack([(g * part).sum() for g, part in zip(gradients, way, strict=True)]).sum())
    return torch.stack(found).detach()


@torch.no_grad()
def _differences(score: Any, at: list[Tensor], way: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Central differences of the fourth order, with a step and with twice that."""

    def change(steps: int) -> Tensor:
        """Over 2·steps steps."""
        ends = []
        for sign in (1, -1):
            moved = (value + sign * steps * _STEP * part for value, part in zip(at, way, strict=True))
            ends.append(score(*moved))
        difference: Tensor = ends[0] - ends[1]
        return difference

    one, two, four = change(1), change(2), change(4)
    return (8 * one - two) / (12 * _STEP), (8 * two - four) / (24 * _STEP)


def reach(setting: Setting, dtype: torch.dtype) -> Finding:
    """Gradients of push and of log_prob are finite for every number; those of log_prob are 0 for none.

    The last at moderate parameters in float64, except for numbers that are declared `idle`; zeros are counted as beyond
    where no point can be judged, κ·ε > 1e-2. In float32 those of
    log_prob are counted as beyond where it passes 1e15 there or in float64: a sample's rounding is magnified as far.
    """
    pushed, scored, largest = _reached(setting, dtype)
    infinite = _infinite(pushed) + _infinite(scored)
    count = sum(value.numel() for value in scored.values())
    narrow = infinite and dtype != torch.float64
    if narrow and max(_reached(setting, torch.float64)[2], largest) > LARGEST**0.5:
        return Finding.count(_infinite(pushed), count, "gradients of push are not finite", _infinite(scored))
    if infinite or setting.state != "moderate" or dtype != torch.float64:
        return Finding.count(infinite, count, f"{infinite} gradients are not finite")
    exempt = idle(setting.flow(dtype))
    dead = {name: int(((g == 0) & ~exempt[name]).sum()) for name, g in scored.items()}
    total, names = sum(dead.values()), ", ".join(f"{number} of {name}" for name, number in dead.items() if number)
    if (setting.kappa * torch.finfo(dtype).eps > 1e-2).all():  # log_prob is of other points, where units may saturate
        return Finding.count(0, count, beyond=total)
    return Finding.count(total, count, f"gradients are 0: {names}")


def _reached(setting: Setting, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """The gradients of push, those of log_prob at the samples, and the largest log_prob."""
    flow, context = setting.flow(dtype), setting.contexts(_CONTEXTS, dtype)
    q = flow(context)
    noise = setting.draw("reach", 4 * _CONTEXTS, *q.batch_shape, setting.features).to(dtype)
    weights = setting.draw("weights", *noise.shape).to(dtype)
    z, log_q = q.push(noise)
    pushed = _gradients(flow, (log_q * weights[..., 0]).sum() + (z * weights).sum())
    log_prob = flow(context).log_prob(z.detach())
    return pushed, _gradients(flow, (log_prob * weights[..., 0]).sum()), log_prob.detach().abs().max().item()


def _infinite(gradients: dict[str, Tensor]) -> int:
    return sum(int((~g.isfinite()).sum()) for g in gradients.values())


def _gradients(flow: Flow, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*flow.named_parameters(), strict=True)
    if not loss.requires_grad:
        return {name: torch.zeros_like(value) for name, value in zip(names, parameters, strict=True)}
    return dict(zip(names, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True))


def idle(flow: Flow) -> dict[str, Tensor]:
    """For each parameter, which of its entries need no gradient.

    They are the weights that a masked linear layer (any `nn.Linear` with a buffer `mask`) counts as 0; all of a chain
    that has a `nn.ReLU`, whose units may be dead; and what a chain declares by an attribute `idle`: the places, among
    the P numbers of a layer, of those on which its map does not depend, or by a sign alone.
    """
    exempt = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in flow.named_parameters()}
    names = {id(value): name for name, value in flow.named_parameters()}
    for module in flow.modules():
        mask = getattr(module, "mask", None)
        if isinstance(module, nn.Linear) and isinstance(mask, Tensor):
            exempt[names[id(module.weight)]] |= mask == 0
    for link in cast(Iterable[Link], flow.links):
        if any(isinstance(module, nn.ReLU) for module in link.modules()):
            for value in link.parameters():
                exempt[names[id(value)]] |= True
        places = list(getattr(link.chain, "idle", ()))
        if places and link.conditioner is not None:
            size = cast(ParametricChain, link.chain).size
            for name, value in link.conditioner.named_parameters():
                # static, (K, P), or a head's, (K·P, C) and (K·P,)
                rows = exempt[names[id(value)]].view(-1, size, *value.shape[1:] if "head" in name else ())
                rows[:, places] = True
    return exempt
