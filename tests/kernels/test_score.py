"""The score along planar layers: the kernel against its definition, and that against autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowvi.kernels import planar_inverse, planar_push_score


def drawn(features: int, rows: int, dtype: torch.dtype, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(features + rows)
    z, slope = torch.randn(2, 33, rows, features, dtype=dtype, generator=generator)
    parameters = scale * torch.randn(rows, 16, 2 * features + 1, dtype=dtype, generator=generator) / features**0.5
    return z, slope, parameters


@pytest.mark.parametrize("features", [1, 2, 10, 40])
@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("invertibility", ["centred", "paper"])
@pytest.mark.parametrize("h", ["tanh", "leaky_relu"])
@pytest.mark.parametrize(("dtype", "scale", "limit"), [(torch.float64, 2.0, 1e-9), (torch.float32, 0.5, 1e-4)])
def test_the_kernel_is_its_definition(
    features: int,
    rows: int,
    invertibility: str,
    h: str,
    dtype: torch.dtype,
    scale: float,
    limit: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = drawn(features, rows, dtype, scale)
    found = planar_push_score(*given, invertibility, h)
    monkeypatch.setattr("flowvi.kernels.score.fuses", lambda *_: False)
    expected = planar_push_score(*(each.double() for each in given), invertibility, h)
    keep = torch.ones_like(found[0][..., 0], dtype=torch.bool)
    if h == "leaky_relu" and dtype == torch.float32:  # a point at a kink may be on either side of it
        keep = ((found[1] - expected[1]).abs() < limit * (1 + expected[1].abs())).all(-1)
        assert keep.double().mean() > 0.95
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double()[keep], other[keep], rtol=limit, atol=limit)


def test_against_autograd() -> None:
    """For q with the density of a standard Gaussian's image, the score is the gradient of ln q by the inverse."""
    z, _, parameters = drawn(3, 1, torch.float64)
    out, slope = planar_push_score(z, -z, parameters, "centred", "tanh")
    at = out.requires_grad_()
    noise, log_det = planar_inverse(at, parameters, "centred", "tanh")
    (expected,) = torch.autograd.grad((-noise.square().sum(-1) / 2 - log_det).sum(), at)
    torch.testing.assert_close(slope, expected, rtol=1e-8, atol=1e-8)


def test_views_and_no_points() -> None:
    z, slope, parameters = drawn(4, 2, torch.float64)
    whole = planar_push_score(z, slope, parameters, "centred", "tanh")
    for one, other in zip(planar_push_score(z[::2], slope[::2], parameters, "centred", "tanh"), whole, strict=True):
        torch.testing.assert_close(one, other[::2])
    assert planar_push_score(z[:0], slope[:0], parameters, "centred", "tanh")[1].shape == (0, 2, 4)
