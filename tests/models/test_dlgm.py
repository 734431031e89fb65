"""The deep latent Gaussian model: its densities written out with torch.distributions, and sums to one."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from flowvi.errors import ShapeError
from flowvi.flows import Gaussian, Planar
from flowvi.inference import free_energy, importance_sampling
from flowvi.models import DLGM
from flowvi.models.networks import Maxout

TinyDLGM = Callable[..., DLGM]
each_depth = pytest.mark.parametrize("latents", [[40], [64, 32], [8, 4, 2]])


def binary(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randint(2, shape, dtype=dtype)


def normal(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return Normal(mean, scale).log_prob(z).sum(-1)


def grid(dimensions: int, points: int, width: float = 9.0) -> tuple[Tensor, float]:
    """Points of a square grid, (points^dimensions, dimensions), and the volume of a cell."""
    axis = torch.linspace(-width, width, points, dtype=torch.float64)
    axes = torch.meshgrid(*[axis] * dimensions, indexing="ij")
    return torch.stack(axes, -1).reshape(-1, dimensions), (axis[1] - axis[0]).item() ** dimensions


def all_images(features: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=features)), dtype=torch.float64)


@each_depth
@pytest.mark.parametrize("samples", [(), (3,), (2, 3)])
@pytest.mark.parametrize("batch", [(), (5,), (2, 4)])
def test_shapes(latents: list[int], samples: tuple[int, ...], batch: tuple[int, ...]) -> None:
    model = DLGM(20, latents, Planar, maxout=(16, 8))
    x, width = binary(*batch, 20, dtype=torch.float32), sum(latents)
    q = model.posterior(x)
    assert (q.batch_shape, q.event_shape) == (batch, (width,))
    z, log_q = q.rsample_and_log_prob(samples)
    assert z.shape == (*samples, *batch, width) and log_q.shape == (*samples, *batch)
    for density in (model.log_prior(z), model.log_likelihood(x, z), model.log_joint(x, z)):
        assert density.shape == (*samples, *batch)
    torch.testing.assert_close(model.log_joint(x, z), model.log_prior(z) + model.log_likelihood(x, z))
    assert model.mean(z).shape == (*samples, *batch, 20)


def test_prior_of_one_layer_is_standard_normal(tiny: TinyDLGM) -> None:
    z = 3 * torch.randn(4, 6, 2, dtype=torch.float64)
    torch.testing.assert_close(tiny(2).log_prior(z), normal(z, torch.zeros(2).double(), torch.ones(2).double()))


def test_prior_of_several_layers_written_out(tiny: TinyDLGM) -> None:
    """z lies from the layer next to x to the top; a layer's decoder gives mean and ln σ of the one below."""
    model = tiny(3, 2, 1)
    z = torch.randn(4, 6, 6, dtype=torch.float64)
    z1, z2, z3 = z[..., :3], z[..., 3:5], z[..., 5:]
    below_2, below_3 = model.priors[0](z2), model.priors[1](z3)
    truth = (
        normal(z3, torch.zeros(1).double(), torch.ones(1).double())
        + normal(z2, below_3[..., :2], below_3[..., 2:].exp())
        + normal(z1, below_2[..., :3], below_2[..., 3:].exp())
    )
    torch.testing.assert_close(model.log_prior(z), truth)


def test_likelihood_sees_the_lowest_layer_only(tiny: TinyDLGM) -> None:
    model, x = tiny(3, 2), binary(6, 5)
    z = torch.randn(4, 6, 5, dtype=torch.float64)
    truth = Bernoulli(logits=model.decoder(z[..., :3])).log_prob(x).sum(-1)
    torch.testing.assert_close(model.log_likelihood(x, z), truth)
    torch.testing.assert_close(model.mean(z), model.decoder(z[..., :3]).sigmoid())


def test_joint_density_of_one_layer_adds_up_to_one(tiny: TinyDLGM) -> None:
    model = tiny(1, features=3)
    z, cell = grid(1, 4001)
    joint = model.log_joint(all_images(3), z[:, None].expand(-1, 8, -1))
    assert joint.exp().sum().item() * cell == pytest.approx(1, abs=1e-6)


def test_joint_density_of_two_layers_adds_up_to_one(tiny: TinyDLGM) -> None:
    model = tiny(1, 1, features=2)
    z, cell = grid(2, 301)
    joint = model.log_joint(all_images(2), z[:, None].expand(-1, 4, -1))
    assert joint.exp().sum().item() * cell == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("latents", [(1,), (1, 1)])
def test_evidence_is_the_integral_of_the_joint(tiny: TinyDLGM, latents: tuple[int, ...]) -> None:
    model, x = tiny(*latents, features=3), all_images(3)
    z, cell = grid(len(latents), 401)
    truth = torch.logsumexp(model.log_joint(x, z[:, None].expand(-1, 8, -1)), 0) + torch.tensor(cell).log()
    # from the prior, whose weights are bounded whatever the posterior looks like
    draws = model.sample_prior(20_000)[:, None].expand(-1, 8, -1)
    weights = model.log_likelihood(x, draws).exp()
    error = weights.std(0) / weights.shape[0] ** 0.5
    assert ((weights.mean(0) - truth.exp()).abs() < 4 * error + 1e-6).all()
    # and from a Gaussian, wider than the prior
    q = Gaussian(features=len(latents)).double()
    with torch.no_grad():
        q.base.location[len(latents) :] = 0.4  # ln σ
    found = importance_sampling(lambda z: model.log_joint(x, z), q().expand((8,)), 20_000)
    assert (found.effective_samples > 1000).all()
    assert ((found.log_evidence - truth).abs() < 5 / found.effective_samples.sqrt()).all()


def test_sample_is_drawn_from_the_model(tiny: TinyDLGM) -> None:
    model = tiny(1, 1, features=3)
    z, cell = grid(2, 401)
    truth = (torch.logsumexp(model.log_joint(all_images(3), z[:, None].expand(-1, 8, -1)), 0)).exp() * cell
    x = model.sample(40_000)
    counts = torch.bincount((x @ torch.tensor([4.0, 2.0, 1.0]).double()).long(), minlength=8)
    error = (truth * (1 - truth) / len(x)).sqrt()
    assert ((counts / len(x) - truth).abs() < 4.5 * error).all()


@each_depth
def test_samples_are_binary_images_that_the_seed_repeats(latents: list[int]) -> None:
    model = DLGM(20, latents, Gaussian, maxout=(16, 8))
    torch.manual_seed(3)
    x, z = model.sample(50), model.sample_prior(50)
    assert x.shape == (50, 20) and z.shape == (50, sum(latents))
    assert not x.requires_grad and not z.requires_grad
    assert set(x.unique().tolist()) == {0.0, 1.0}
    torch.manual_seed(3)
    assert torch.equal(model.sample(50), x)
    assert not torch.equal(model.sample(50), x)


def test_encoder_runs_once_however_many_samples(tiny: TinyDLGM) -> None:
    model, x = tiny(2, 2), binary(6, 5)
    calls = []
    model.encoder.register_forward_hook(lambda _m, _i, out: calls.append(out.shape))
    posterior = model.posterior(x)
    importance_sampling(lambda z: model.log_joint(x, z), posterior, 100, rows=12)
    posterior.log_prob(posterior.sample((3,)))
    assert calls == [(6, 4)]
    free_energy(model, x, samples=7)
    assert calls == [(6, 4)] * 2


def test_start_at_sets_the_mean() -> None:
    model, mean = (
        DLGM(6, [2], Gaussian, maxout=(8, 4)),
        torch.tensor([0.0, 0.02, 0.3, 0.5, 0.9, 1.0]).double(),
    )
    model.start_at(mean)
    nn.init.zeros_(model.decoder.output.weight)
    expected = mean.clamp(0.01, 0.99).float().expand(3, 6)
    torch.testing.assert_close(model.mean(torch.randn(3, 2)), expected)


class WithoutBias(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.output = nn.Linear(inputs, outputs, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        return self.output(z)


@pytest.mark.parametrize("decoder", [nn.Linear, WithoutBias])
def test_start_at_leaves_a_decoder_without_an_output_bias_alone(
    decoder: Callable[[int, int], nn.Module],
) -> None:
    model = DLGM(6, [2], Gaussian, maxout=(8, 4), decoder=decoder)
    before = copy.deepcopy(model.state_dict())
    model.start_at(torch.full((6,), 0.3))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_networks_of_ones_own() -> None:
    asked = []

    def network(inputs: int, outputs: int) -> nn.Module:
        asked.append((inputs, outputs))
        return nn.Sequential(nn.Linear(inputs, 7), nn.Tanh(), nn.Linear(7, outputs))

    model = DLGM(20, [6, 3], Planar, maxout=(16, 8), encoder=network, decoder=network)
    assert asked == [(20, 8), (6, 20)]
    x = binary(5, 20, dtype=torch.float32)
    z, _ = model.posterior(x).rsample_and_log_prob((4,))
    truth = Bernoulli(logits=model.decoder(z[..., :6])).log_prob(x).sum(-1)
    torch.testing.assert_close(model.log_likelihood(x, z), truth)
    free_energy(model, x).loss.mean().backward()
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_a_likelihood_of_ones_own_says_how_many_outputs_it_needs() -> None:
    class Gauss:
        def outputs(self, features: int) -> int:
            return 2 * features

        def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
            mean, log_scale = parameters.chunk(2, -1)
            return normal(x, mean, log_scale.exp())

    model = DLGM(4, [2], Gaussian, maxout=(8, 4), likelihood=Gauss())
    assert model.log_likelihood(torch.randn(3, 4), torch.randn(5, 3, 2)).shape == (5, 3)


def test_shape_errors(tiny: TinyDLGM) -> None:
    model = tiny(2, 1)
    with pytest.raises(ShapeError, match=r"latents = \[\]"):
        DLGM(5, [], Gaussian)
    with pytest.raises(ShapeError, match=r"latents = \[3, 0\]"):
        DLGM(5, [3, 0], Gaussian)
    with pytest.raises(ShapeError, match=r"10 units onto 4"):
        DLGM(5, [3], Gaussian, maxout=(10, 4))
    for x in (binary(7, 4), binary(7, 1), torch.ones(()).double()):
        with pytest.raises(ShapeError, match=r"x of shape .*: expected \(batch…, 5\)"):
            model.posterior(x)
        with pytest.raises(ShapeError, match=r"x of shape .*: expected \(batch…, 5\)"):
            model.log_likelihood(x, torch.randn(7, 3).double())
        with pytest.raises(ShapeError, match=r"x of shape .*: expected \(batch…, 5\)"):
            model.log_joint(x, torch.randn(7, 3).double())
    for z in (torch.randn(7, 2).double(), torch.ones(()).double()):
        for density in (model.log_prior, model.mean, lambda z: model.log_joint(binary(7, 5), z)):
            with pytest.raises(ShapeError, match=r"z of shape .*: expected \(…, 3\)"):
                density(z)


def test_float64_throughout(tiny: TinyDLGM) -> None:
    model, x = tiny(3, 2), binary(6, 5)
    z, log_q = model.posterior(x).rsample_and_log_prob((2,))
    terms = free_energy(model, x, objective="iwae", samples=2)
    outputs = (
        z,
        log_q,
        model.log_prior(z),
        model.log_likelihood(x, z),
        model.mean(z),
        model.sample(2),
        terms.loss,
    )
    assert {out.dtype for out in outputs} == {torch.float64}
    assert model.sample_prior(2).dtype == torch.float64


def test_float32_is_enough_for_the_papers_model() -> None:
    model = DLGM(784, [40], lambda d, c: Planar(d, c, 20, invertibility="paper", init="xavier"))
    model.start_at(torch.rand(784) ** 6)
    x, noise = binary(20, 784, dtype=torch.float32), torch.randn(5, 20, 40)
    single = free_energy(model, x, noise=noise).value
    double = free_energy(model.double(), x.double(), noise=noise.double()).value
    assert single.dtype == torch.float32
    assert (single - double).abs().max() < 1e-5 * double.abs().max()


def test_a_copy_is_the_same_model(tiny: TinyDLGM) -> None:
    """What averaging the weights and loading a checkpoint rest on."""
    model, other, x = tiny(3, 2), tiny(3, 2), binary(6, 5)
    noise = torch.randn(2, 6, 5, dtype=torch.float64)
    truth = free_energy(model, x, noise=noise).loss
    assert torch.equal(free_energy(copy.deepcopy(model), x, noise=noise).loss, truth)
    other.load_state_dict(model.state_dict())
    assert torch.equal(free_energy(other, x, noise=noise).loss, truth)


class TestBfloat16:
    """`precision="bf16"` changes encoder and decoder, and nothing else."""

    @pytest.fixture
    def models(self) -> tuple[DLGM, DLGM]:
        full = DLGM(200, [8, 4], lambda d, c: Planar(d, c, 4, init="normal"), maxout=(64, 32))
        half = copy.deepcopy(full)
        half.precision = "bf16"
        return full, half

    def test_only_networks_run_in_bfloat16(self, models: tuple[DLGM, DLGM]) -> None:
        _, half = models
        seen: dict[str, set[torch.dtype]] = {}
        for name, module in half.named_modules():
            if isinstance(module, (nn.Linear, Maxout)):
                room = name.split(".")[0]
                module.register_forward_hook(lambda _m, _i, out, room=room: seen.setdefault(room, set()).add(out.dtype))
        x = binary(10, 200, dtype=torch.float32)
        z, log_q = half.posterior(x).rsample_and_log_prob((3,))
        densities = half.log_prior(z), half.log_likelihood(x, z)
        assert {t.dtype for t in (z, log_q, *densities, half.sample(2), half.mean(z))} == {torch.float32}
        networks = ("encoder", "upper_encoders", "priors", "decoder")
        assert seen == {"flows": {torch.float32}} | {name: {torch.bfloat16} for name in networks}
        assert {p.dtype for p in half.parameters()} == {torch.float32}

    def test_free_energy_moves_by_less_than_its_monte_carlo_error(self, models: tuple[DLGM, DLGM]) -> None:
        full, half = models
        x, noise = binary(300, 200, dtype=torch.float32), torch.randn(1, 300, 12)
        values, rounded = (free_energy(m, x, noise=noise).value.detach() for m in (full, half))
        assert not torch.equal(values, rounded)
        assert (values.mean() - rounded.mean()).abs() < values.std() / 300**0.5

    def test_gradients_are_float32_and_near(self, models: tuple[DLGM, DLGM]) -> None:
        x, noise = binary(100, 200, dtype=torch.float32), torch.randn(1, 100, 12)
        gradients = []
        for model in models:
            free_energy(model, x, noise=noise).loss.mean().backward()
            assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
            gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        full, half = gradients
        assert torch.cosine_similarity(full, half, 0) > 0.99

    def test_32_is_the_default_and_rounds_nothing(self, models: tuple[DLGM, DLGM]) -> None:
        full, _ = models
        assert full.precision == "32"
        x = binary(10, 200, dtype=torch.float32)
        z = torch.randn(10, 12)
        assert torch.equal(full.mean(z), full.decoder(z[:, :8]).sigmoid())
        assert full.posterior(x).rsample().dtype == torch.float32
