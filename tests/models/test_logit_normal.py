"""The logit-normal likelihood: a density on the unit interval, with a floor under its scale."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch import Tensor

from flowvi.errors import ShapeError
from flowvi.flows import Gaussian
from flowvi.models import DLGM, LogitNormal

MEANS = (-6.0, -1.0, 0.0, 2.5)
LOG_SCALES = (-1e4, -2.0, 0.0, 1.5)


def parameters(mean: float, log_scale: float) -> Tensor:
    return torch.tensor([mean, log_scale], dtype=torch.float64)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_the_density_of_a_pixel_integrates_to_one_over_the_unit_interval(mean: float, log_scale: float) -> None:
    """By the trapezium rule in t, x = ½(1 + tanh(½π·sinh t)) moved to where the density is (tanh-sinh quadrature)."""
    t = torch.linspace(-3.1, 3.1, 200_001, dtype=torch.float64)
    x = torch.sigmoid(math.pi * t.sinh())
    slope = math.pi * t.cosh() * x * torch.sigmoid(-math.pi * t.sinh())
    inside = (x > 0) & (x < 1)
    x, slope = x[inside], slope[inside]
    density = LogitNormal().log_prob(x[:, None], parameters(mean, log_scale)).exp()
    assert abs(float((density * slope).sum() * (t[1] - t[0])) - 1) < 1e-6


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_log_prob_is_the_formula_in_multiple_precision(mean: float, log_scale: float) -> None:
    x = torch.tensor([1e-4, 0.01, 0.3, 0.5, 0.77, 1 - 1e-4], dtype=torch.float64)
    ours = LogitNormal().log_prob(x[:, None], parameters(mean, log_scale))
    for pixel, value in zip(x.tolist(), ours.tolist(), strict=True):
        with mpmath.workdps(50):
            v = mpmath.mpf(pixel)
            scale = mpmath.mpf(LogitNormal.FLOOR) + mpmath.exp(log_scale)
            z = (mpmath.log(v / (1 - v)) - mean) / scale
            truth = -z * z / 2 - mpmath.log(scale) - mpmath.log(2 * mpmath.pi) / 2 - mpmath.log(v * (1 - v))
        assert value == pytest.approx(float(truth), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("samples", [(), (7,), (2, 3)])
@pytest.mark.parametrize("batch", [(), (4,), (2, 5)])
def test_shapes_and_the_sum_over_pixels(samples: tuple[int, ...], batch: tuple[int, ...], dtype: torch.dtype) -> None:
    x, given = torch.rand(*batch, 30, dtype=dtype) * 0.98 + 0.01, torch.randn(*samples, *batch, 60, dtype=dtype)
    mean, free = given.double().chunk(2, -1)
    normal = torch.distributions.Normal(mean, LogitNormal.FLOOR + free.exp())
    truth = torch.distributions.TransformedDistribution(normal, torch.distributions.SigmoidTransform())
    ours = LogitNormal().log_prob(x, given)
    assert ours.shape == (*samples, *batch) and ours.dtype == dtype
    expected = truth.log_prob(x.double()).sum(-1)
    torch.testing.assert_close(ours.double(), expected, rtol=2e-5 if dtype == torch.float32 else 1e-12, atol=2e-4)
    for made in (LogitNormal().mean(given), LogitNormal().sample(given)):
        assert made.shape == (*samples, *batch, 30) and made.dtype == dtype
        assert ((made >= 0) & (made <= 1)).all()


def test_gradients() -> None:
    x = torch.rand(3, 4, dtype=torch.float64) * 0.9 + 0.05
    given = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: LogitNormal().log_prob(x, p), given)


@pytest.mark.parametrize("log_scale", [-1e30, -1e4, -50.0, 0.0, 50.0])
@pytest.mark.parametrize("mean", [-1e3, 0.0, 1e3])
def test_extreme_parameters_stay_finite(mean: float, log_scale: float, dtype: torch.dtype) -> None:
    given = torch.tensor([mean, mean, log_scale, log_scale], dtype=dtype, requires_grad=True)
    log_p = LogitNormal().log_prob(torch.tensor([1e-4, 1 - 1e-4], dtype=dtype), given)
    (gradient,) = torch.autograd.grad(log_p, given)
    assert log_p.isfinite() and gradient.isfinite().all()
    with torch.no_grad():
        assert LogitNormal().mean(given).isfinite().all() and LogitNormal().sample(given).isfinite().all()


def test_the_floor_bounds_the_density() -> None:
    """However small the decoder's scale, a pixel at its mean has the density that the floor gives."""
    x = torch.tensor([0.5], dtype=torch.float64)
    bound = -math.log(LogitNormal.FLOOR) - 0.5 * math.log(2 * math.pi) + math.log(4)
    found = [float(LogitNormal().log_prob(x, parameters(0.0, free))) for free in (-5.0, -20.0, -1e9)]
    assert found[0] < found[1] <= found[2] and found[2] == pytest.approx(bound, rel=1e-12)


def test_a_patch_keeps_its_digits_in_float32() -> None:
    x, given = torch.rand(50, 192) * (1 - 2e-4) + 1e-4, torch.randn(50, 384)
    truth = LogitNormal().log_prob(x.double(), given.double())
    assert ((LogitNormal().log_prob(x, given) - truth) / truth).abs().max() < 1e-5


def test_mean_is_that_of_samples_and_keeps_its_bound() -> None:
    given = torch.tensor([-3.0, 0.0, 1.0, 2.0, -1e4, 0.0, 1.0, 3.0], dtype=torch.float64)
    mean, free = given.chunk(2)
    for each, pixel, log_scale in zip(LogitNormal().mean(given), mean.tolist(), free.tolist(), strict=True):
        sigma = LogitNormal.FLOOR + math.exp(log_scale)

        def integrand(t: float, m: float = pixel, s: float = sigma) -> mpmath.mpf:
            return mpmath.npdf(t) / (1 + mpmath.exp(-m - s * t))

        assert abs(float(each) - float(mpmath.quad(integrand, [-10, -2, 0, 2, 10]))) < 1 / 512
    draws = LogitNormal().sample(given.expand(40_000, 8))
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - LogitNormal().mean(given)).abs() < 4 * error + 1 / 512).all()


def test_start_bias_is_the_logit_of_the_mean_and_a_unit_scale() -> None:
    bias = LogitNormal().start_bias(torch.tensor([0.0, 0.3, 1.0]))
    torch.testing.assert_close(bias[:3].sigmoid(), torch.tensor([0.01, 0.3, 0.99]))
    assert bias[3:].tolist() == [0, 0, 0]


def test_a_model_with_it() -> None:
    model = DLGM(6, [2], Gaussian, maxout=(8, 4), likelihood=LogitNormal())
    model.start_at(torch.full((6,), 0.25))
    x = model.sample(3)
    z, _ = model.posterior(x).rsample_and_log_prob((5,))
    assert model.log_joint(x, z).shape == (5, 3) and model.mean(z).shape == (5, 3, 6)
    assert model.decoder.output.bias[:6].sigmoid().allclose(torch.tensor(0.25))
    with pytest.raises(ShapeError):
        model.log_likelihood(x[:, :5], z)
