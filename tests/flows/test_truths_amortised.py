"""What a context changes: the layers of every amortised flow; of a static one, the base alone."""

from __future__ import annotations

import pytest
import torch

from flowvi.flows import Flow, build

KINDS = ["planar", "radial", "householder", "sylvester", "nice", "realnvp", "iaf", "full_rank"]

each_kind = pytest.mark.parametrize("kind", KINDS)


def conditioned(kind: str, parameters: str) -> Flow:
    flow = build(kind, 4, 3, 0 if kind == "full_rank" else 3, parameters=parameters).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return flow


def through_the_layers(flow: Flow, context: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The bijections alone at `z`, both ways, given one context."""
    (part,) = flow(context).parts
    given = part.conditioning
    given = None if given is None else given.reshape(1, *given.shape[-part.chain.conditioning_dims :])
    return part.chain.forward(z[:, None], given)[0], part.chain.inverse(z[:, None], given)[0]


@each_kind
@pytest.mark.parametrize("parameters", ["amortised", "auto"])
def test_a_context_changes_the_layers(kind: str, parameters: str) -> None:
    flow = conditioned(kind, parameters)
    z, (one, other) = torch.randn(6, 4, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    for a, b in zip(through_the_layers(flow, one, z), through_the_layers(flow, other, z), strict=True):
        assert ((a - b).abs().amax((1, 2)) > 1e-6).all()
    # every feature of the context has a say
    one.requires_grad_()
    (grad,) = torch.autograd.grad((through_the_layers(flow, one, z)[0] ** 3).sum(), one)
    assert (grad != 0).all()


@each_kind
def test_static_layers_do_not_see_the_context(kind: str) -> None:
    flow = conditioned(kind, "static")
    z, (one, other) = torch.randn(6, 4, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    for a, b in zip(through_the_layers(flow, one, z), through_the_layers(flow, other, z), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(flow(one).base_mean, flow(other).base_mean)
    assert not torch.equal(flow(one).base_log_scale, flow(other).base_log_scale)
    assert not torch.equal(flow(one).log_prob(z), flow(other).log_prob(z))


@each_kind
def test_a_batch_of_contexts_is_each_context_alone(kind: str) -> None:
    for parameters in ("amortised", "static"):
        flow = conditioned(kind, parameters)
        contexts, z = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 5, 4, dtype=torch.float64)
        whole = flow(contexts)
        pushed, log_q = whole.push(z)
        scored = whole.log_prob(z)
        for row in range(5):
            alone = flow(contexts[row])
            torch.testing.assert_close(pushed[:, row], alone.push(z[:, row])[0], rtol=1e-11, atol=1e-11)
            torch.testing.assert_close(log_q[:, row], alone.push(z[:, row])[1], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(scored[:, row], alone.log_prob(z[:, row]), rtol=1e-9, atol=1e-9)
