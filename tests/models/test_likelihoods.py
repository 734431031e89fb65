"""The Bernoulli likelihood against torch.distributions and against multiple precision."""

from __future__ import annotations

import mpmath
import pytest
import torch
from torch import Tensor

from flowvi.models import Bernoulli


def binary(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randint(2, shape, dtype=dtype)


@pytest.mark.parametrize("samples", [(), (1,), (7,), (2, 3)])
@pytest.mark.parametrize("batch", [(), (4,), (2, 5)])
def test_log_prob_is_that_of_independent_bernoullis(
    samples: tuple[int, ...], batch: tuple[int, ...], dtype: torch.dtype
) -> None:
    x, logits = binary(*batch, 30, dtype=dtype), 4 * torch.randn(*samples, *batch, 30, dtype=dtype)
    truth = torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(-1)
    ours = Bernoulli().log_prob(x, logits)
    assert ours.shape == (*samples, *batch) and ours.dtype == dtype
    torch.testing.assert_close(ours, truth, rtol=0, atol=2e-5 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("x", [0.0, 1.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_log_prob_is_exact_at_every_logit(x: float, sign: float) -> None:
    logits = sign * torch.cat([torch.linspace(0, 100, 301), torch.tensor([39.99, 40.0, 40.01, 1e-9])]).double()[:, None]
    ours = Bernoulli().log_prob(torch.full((1,), x, dtype=torch.float64), logits)
    for logit, value in zip(logits[:, 0].tolist(), ours.tolist(), strict=True):
        with mpmath.workdps(60):
            truth = -mpmath.log1p(mpmath.exp(-mpmath.mpf(logit) * (1 if x else -1)))
            assert abs(truth - value) <= 4 * 2.3e-16 * max(1, abs(logit))


@pytest.mark.parametrize("logit", [1e3, 1e30])
def test_certain_pixels_stay_finite(logit: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([logit, -logit], dtype=dtype, requires_grad=True)
    right = Bernoulli().log_prob(torch.tensor([1.0, 0.0], dtype=dtype), logits)
    wrong = Bernoulli().log_prob(torch.tensor([0.0, 1.0], dtype=dtype), logits)
    assert right == 0
    torch.testing.assert_close(wrong.item(), -2 * torch.tensor(logit, dtype=dtype).item())
    (gradient,) = torch.autograd.grad(right + wrong, logits)
    assert gradient.tolist() == [-1, 1]


def test_gradient_is_pixel_less_mean() -> None:
    x, logits = binary(6, 20), (5 * torch.randn(3, 6, 20, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(Bernoulli().log_prob(x, logits).sum(), logits)
    torch.testing.assert_close(gradient, x - logits.detach().sigmoid())


def test_sums_of_many_pixels_keep_their_digits_in_float32() -> None:
    """784 pixels, most of them all but certain: the error is far below that of any Monte Carlo estimate."""
    mean = torch.rand(500, 784) ** 6
    x, logits = torch.bernoulli(mean), torch.logit(mean, eps=1e-4)
    truth = Bernoulli().log_prob(x.double(), logits.double())
    assert (Bernoulli().log_prob(x, logits) - truth).abs().max() < 2e-4


def test_nan_stays_nan() -> None:
    logits = torch.zeros(2, 3)
    logits[0, 1] = torch.nan
    assert Bernoulli().log_prob(torch.ones(3), logits).isnan().tolist() == [True, False]


def test_mean_and_sample() -> None:
    logits = torch.tensor([-100.0, -1.0, 0.0, 2.0, 100.0])
    torch.testing.assert_close(Bernoulli().mean(logits), 1 / (1 + (-logits).exp()))
    draws = Bernoulli().sample(logits.expand(40_000, 5))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    error = (Bernoulli().mean(logits) * (1 - Bernoulli().mean(logits)) / len(draws)).sqrt()
    assert ((draws.mean(0) - Bernoulli().mean(logits)).abs() <= 4 * error + 1e-9).all()


def test_start_bias_is_the_logit_of_the_mean_held_from_the_ends() -> None:
    mean = torch.tensor([0.0, 0.001, 0.3, 0.5, 1.0])
    expected = torch.tensor([0.01, 0.01, 0.3, 0.5, 0.99])
    torch.testing.assert_close(Bernoulli().start_bias(mean).sigmoid(), expected)
