"""q(z | x) of one layer and of several: its density is the density of its draws, whatever flow makes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Laplace

from flowvi.errors import ShapeError
from flowvi.inference import free_energy, importance_sampling
from flowvi.models import DLGM

TinyDLGM = Callable[..., DLGM]
each_depth = pytest.mark.parametrize("latents", [(3,), (3, 2), (3, 2, 1)])


def binary(*shape: int) -> Tensor:
    return torch.randint(2, shape, dtype=torch.float64)


@each_depth
@pytest.mark.parametrize("samples", [(), (4,), (2, 3)])
@pytest.mark.parametrize("batch", [(), (6,), (2, 3)])
def test_log_prob_of_own_samples_is_their_log_q(
    tiny: TinyDLGM, latents: tuple[int, ...], samples: tuple[int, ...], batch: tuple[int, ...]
) -> None:
    posterior = tiny(*latents).posterior(binary(*batch, 5))
    z, log_q = posterior.rsample_and_log_prob(samples)
    torch.testing.assert_close(posterior.log_prob(z), log_q, rtol=1e-8, atol=1e-8)


def test_density_of_two_layers_integrates_to_one(tiny: TinyDLGM) -> None:
    axis = torch.linspace(-12, 12, 301, dtype=torch.float64)
    z = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    model = tiny(1, 1)
    with torch.no_grad():
        density = model.posterior(binary(5)).log_prob(z).exp()
    assert density.sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1, abs=1e-3)


def test_upper_layers_condition_on_the_layer_below(tiny: TinyDLGM) -> None:
    model, x = tiny(3, 2, 1), binary(6, 5)
    z = torch.randn(4, 6, 6, dtype=torch.float64)
    z1, z2, z3 = z.split([3, 2, 1], -1)
    truth = (
        model.flows[0](model.encoder(x)).log_prob(z1)
        + model.flows[1](model.upper_encoders[0](z1)).log_prob(z2)
        + model.flows[2](model.upper_encoders[1](z2)).log_prob(z3)
    )
    torch.testing.assert_close(model.posterior(x).log_prob(z), truth)


@each_depth
def test_push_is_the_sample_of_that_noise(tiny: TinyDLGM, latents: tuple[int, ...]) -> None:
    posterior = tiny(*latents).posterior(binary(6, 5))
    torch.manual_seed(1)
    z, log_q = posterior.rsample_and_log_prob((4,))
    torch.manual_seed(1)
    noise = torch.cat([torch.randn(4, 6, size, dtype=torch.float64) for size in latents], -1)
    pushed, log_q_pushed = posterior.push(noise)
    assert torch.equal(z, pushed) and torch.equal(log_q, log_q_pushed)
    torch.manual_seed(1)
    assert torch.equal(posterior.rsample((4,)), z)
    torch.manual_seed(1)
    sample = posterior.sample((4,))
    assert torch.equal(sample, z) and not sample.requires_grad


def test_several_layers_are_one_torch_distribution(tiny: TinyDLGM) -> None:
    posterior = tiny(3, 2).posterior(binary(6, 5))
    assert isinstance(posterior, Distribution) and posterior.has_rsample
    assert (posterior.batch_shape, posterior.event_shape) == ((6,), (5,))
    for wrong in (torch.zeros(6, 4), torch.zeros(6, 1), torch.zeros(())):
        with pytest.raises(ShapeError, match=r"expected \(…, 5\)"):
            posterior.log_prob(wrong.double())


def test_samples_are_reparameterised_through_every_layer(tiny: TinyDLGM) -> None:
    model = tiny(2, 2, 2)
    z, log_q = model.posterior(binary(6, 5)).rsample_and_log_prob((3,))
    for value in (z[..., -1].sum(), log_q.sum()):
        gradients = torch.autograd.grad(value, list(model.encoder.parameters()), retain_graph=True)
        assert all(g.abs().max() > 0 for g in gradients)


@pytest.mark.parametrize("latents", [(3,), (3, 2)])
def test_any_flow_of_that_call_can_be_the_posterior(
    tiny: TinyDLGM, foreign_flow: type[nn.Module], latents: tuple[int, ...]
) -> None:
    model, x = tiny(*latents, flow=foreign_flow), binary(6, 5)
    posterior = model.posterior(x)
    z, log_q = posterior.rsample_and_log_prob((4,))
    truth = torch.zeros(4, 6, dtype=torch.float64)
    layers = z.split(latents, -1)
    below = zip(model.upper_encoders, layers[:-1], strict=True)
    contexts = [model.encoder(x), *(encoder(layer) for encoder, layer in below)]
    for flow, context, layer in zip(model.flows, contexts, layers, strict=True):
        location, log_scale = flow.head(context).chunk(2, -1)
        truth = truth + Laplace(location, log_scale.exp()).log_prob(layer).sum(-1)
    torch.testing.assert_close(log_q, truth)
    torch.testing.assert_close(posterior.log_prob(z), truth)

    free_energy(model, x, samples=2, objective="iwae").loss.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    evidence = importance_sampling(lambda z: model.log_joint(x, z), posterior, 50)
    assert (evidence.kl >= 0).all() and evidence.log_evidence.isfinite().all()


def test_a_flow_of_zukos_own_is_a_posterior_as_it_is() -> None:
    """Not through our adapter: whatever gives `rsample_and_log_prob` when called with a context."""
    flows = pytest.importorskip("flowvi.flows.zuko").zuko_flows()
    model = DLGM(6, [3], lambda size, context: flows.NSF(size, context, passes=2), maxout=(8, 4)).double()
    loss = free_energy(model, binary(5, 6), samples=4).loss
    assert loss.shape == (5,)
    loss.sum().backward()
    assert all(parameter.grad is not None for parameter in model.flows.parameters())
