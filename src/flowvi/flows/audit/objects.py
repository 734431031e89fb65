"""A flow is a plain torch object: seeds, saved weights, copies, dtypes, torch.func, torch.compile and devices."""

from __future__ import annotations

import io
from copy import deepcopy

import torch
from torch import Tensor
from torch.distributions import Distribution

from flowvi.flows.audit.findings import Finding
from flowvi.flows.audit.states import Setting

__all__ = ["compiled", "objects"]

_ROWS = 6


def objects(setting: Setting, dtype: torch.dtype) -> Finding:
    """One seed, one sample; saved and copied flows are equal; dtypes, torch.func and the meta device are followed.

    By the bit for samples, copies and weights; to 1e-3 in float32 and 1e-8 in float64 for vmap over contexts and points
    against the batch, and for jacfwd against jacrev.
    """
    return Finding.worst([check(setting, dtype) for check in (_seeds, _saved, _dtypes, _func, _meta)])


def compiled(setting: Setting, dtype: torch.dtype, backend: str = "aot_eager") -> Finding:
    """torch.compile (backend `aot_eager`) gives the numbers of eager mode, to 1e-4 in float32 and 1e-10 in float64."""
    flow, context = setting.flow(dtype), setting.contexts(_ROWS, dtype)
    noise = setting.draw("compiled", _ROWS, setting.features).to(dtype)

    def run(noise: Tensor) -> tuple[Tensor, Tensor]:
        z, log_q = flow(context).push(noise)
        return z, log_q

    validates = Distribution._validate_args
    torch._dynamo.reset()
    try:
        found = torch.compile(run, backend=backend)(noise)
    finally:
        torch._dynamo.reset()
        Distribution.set_default_validate_args(validates)  # which the compiler switches off for good
    bound = 1e-10 if dtype == torch.float64 else 1e-4
    return Finding.worst([_near(a, b, bound, "torch.compile") for a, b in zip(found, run(noise), strict=True)])


def _seeds(setting: Setting, dtype: torch.dtype) -> Finding:
    q = setting.flow(dtype)(setting.contexts(2, dtype))
    drawn = []
    with torch.random.fork_rng(devices=[]):
        for draw in (q.sample, q.rsample, lambda shape: q.rsample_and_log_prob(shape)[0]):
            torch.manual_seed(7)
            drawn.append(draw((_ROWS,)))
        torch.manual_seed(7)
        drawn.append(q.push(torch.randn(drawn[0].shape, dtype=dtype))[0])
    return _same(drawn, "the same seed, another sample")


def _saved(setting: Setting, dtype: torch.dtype) -> Finding:
    flow, context = setting.flow(dtype), setting.contexts(2, dtype)
    file = io.BytesIO()
    torch.save(flow.state_dict(), file)
    file.seek(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed + 1)
        other = setting.subject.build(setting.features, setting.length).to(dtype)
    other.load_state_dict(torch.load(file, weights_only=True))
    noise = setting.draw("saved", 2, setting.features).to(dtype)
    answers = [torch.cat([each.flatten() for each in f(context).push(noise)]) for f in (flow, other, deepcopy(flow))]
    buffers = [torch.cat([b.double().flatten() for b in (torch.zeros(1), *f.buffers())]) for f in (flow, other)]
    return Finding.worst([_same(answers, "weights saved and loaded, or copied"), _same(buffers, "buffers saved")])


def _dtypes(setting: Setting, dtype: torch.dtype) -> Finding:
    flow, context = setting.flow(dtype), setting.contexts(2, dtype)
    kept = {value.dtype for value in (*flow.parameters(), *flow.buffers()) if value.is_floating_point()}
    with torch.random.fork_rng(devices=[]):
        z, log_q = flow(context).rsample_and_log_prob((2,))
    kept |= {z.dtype, log_q.dtype, flow(context).log_prob(z).dtype}
    return Finding.count(len(kept - {dtype}), 1, f"dtypes beside {dtype}: {kept - {dtype}}")


def _func(setting: Setting, dtype: torch.dtype) -> Finding:
    flow, contexts = setting.flow(dtype).requires_grad_(False), setting.contexts(_ROWS, dtype)
    values = setting.draw("func", _ROWS, setting.features).to(dtype)
    bound = 1e-8 if dtype == torch.float64 else 1e-3

    def log_prob(context: Tensor | None, z: Tensor) -> Tensor:
        found: Tensor = flow(context).log_prob(z)
        return found

    def push(context: Tensor | None, z: Tensor) -> tuple[Tensor, Tensor]:
        z, log_q = flow(context).push(z)
        return z, log_q

    dims = (None if contexts is None else 0, 0)
    rows = (torch.func.vmap(log_prob, dims)(contexts, values), *torch.func.vmap(push, dims)(contexts, values))
    batch = (log_prob(contexts, values), *push(contexts, values))
    findings = [_near(a, b, bound, "vmap against the batch") for a, b in zip(rows, batch, strict=True)]
    first = None if contexts is None else contexts[0]
    for run in (log_prob, lambda context, z: push(context, z)[0]):
        backward = torch.func.jacrev(run, 1)(first, values[0])
        findings.append(_near(torch.func.jacfwd(run, 1)(first, values[0]), backward, bound, "jacfwd against jacrev"))
    return Finding.worst(findings)


def _meta(setting: Setting, dtype: torch.dtype) -> Finding:
    flow, context = setting.flow(dtype).to("meta"), setting.contexts(2, dtype)
    noise = setting.draw("meta", 2, setting.features).to(dtype)
    z, log_q = flow(None if context is None else context.to("meta")).push(noise.to("meta"))
    wrong = sum(answer.device.type != "meta" for answer in (z, log_q)) + (z.shape != noise.shape)
    return Finding.count(wrong, 1, "devices or shapes on the meta device")


def _same(answers: list[Tensor], note: str) -> Finding:
    wrong = sum(not torch.equal(answers[0], answer) for answer in answers[1:])
    return Finding.count(wrong, len(answers), note)


def _near(found: Tensor, expected: Tensor, bound: float, note: str) -> Finding:
    """Relative to 1 and the largest entry."""
    error = (found.double() - expected.double()).abs() / (1 + expected.detach().double().abs().max())
    finding = Finding.of(error, bound)
    return finding if finding.holds else Finding(finding.error, finding.ratio, 0, finding.points, note)
