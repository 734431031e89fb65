"""The baseline computes what it says: else its time would stand for nothing."""

import math

import pytest
import torch
from torch import Tensor

earlier = pytest.importorskip("benchmarks.earlier", reason="the benchmarks are only in the checkout")


def test_log_det_is_that_of_the_jacobian() -> None:
    torch.manual_seed(0)
    z, u, w, b = (torch.randn(3, *s, dtype=torch.float64) for s in ((4,), (4, 1), (1, 4), (1, 1)))
    _, log_det = earlier.planar_layer(z, u, w, b)
    for i in range(3):

        def layer(point: Tensor, i: int = i) -> Tensor:
            moved: Tensor = earlier.planar_layer(point[None], u[i : i + 1], w[i : i + 1], b[i : i + 1])[0][0]
            return moved

        jacobian = torch.autograd.functional.jacobian(layer, z[i])
        assert torch.linalg.slogdet(jacobian).logabsdet.item() == pytest.approx(log_det[i].item(), abs=1e-10)


@pytest.mark.parametrize("length", [0, 3])
def test_free_energy_bounds_the_estimate_of_the_evidence(length: int) -> None:
    torch.manual_seed(0)
    model = earlier.EarlierDLGM(length, pixels=30, hidden=8, latents=5)
    x = (torch.rand(1, 30) < 0.5).float()
    with torch.no_grad():
        bound = torch.stack([model.free_energy(x) for _ in range(2000)])
        nll = model.nll(x, samples=2000).item()
    error = bound.std().item() / math.sqrt(len(bound))
    assert nll <= bound.mean().item() + 3 * error
    assert nll == pytest.approx(30 * math.log(2), abs=8)  # untrained, near a fair coin for each pixel


def test_one_sample_of_the_evidence_is_one_sample_of_the_bound_but_for_the_entropy() -> None:
    """At S = 1, −ln p̂ = F + (ln q₀(z₀) + H[q₀]): the two functions share every other term."""
    torch.manual_seed(0)
    model = earlier.EarlierDLGM(2, pixels=30, hidden=8, latents=5)
    x = (torch.rand(1, 30) < 0.5).float()
    torch.manual_seed(1)
    nll = model.nll(x, samples=1)
    torch.manual_seed(1)
    bound = model.free_energy(x)
    torch.manual_seed(1)
    _, z0, _, mean, log_variance, _ = model(x)
    base = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    gap = (base.log_prob(z0) + base.entropy()).sum()
    assert nll.item() == pytest.approx((bound + gap).item(), abs=1e-4)


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    trainer = earlier.EarlierTrainer(earlier.EarlierDLGM(2, pixels=30, hidden=8, latents=5))
    trainer.updates = 10_000  # past the annealing, so that the losses can be compared
    for group in trainer.optimiser.param_groups:
        group["lr"] = 1e-3
    x = (torch.rand(50, 30) < 0.2).float()
    losses = [trainer.step(x) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert trainer.updates == 10_060
