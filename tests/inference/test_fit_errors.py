"""A user's mistakes in a log density, as `fit` answers them: what was wrong, what is allowed, what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import flowvi
from flowvi import supports as s
from flowvi.errors import ConfigError, DensityError, FlowviError
from flowvi.inference.fitting.checks import check_density
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.joint import Joint


def good(z: Tensor) -> Tensor:
    return -z.square().sum(-1) / 2


def refused(log_density: Any, parameters: Any = 3, kind: type[Exception] = DensityError, **settings: Any) -> str:
    with pytest.raises(kind) as caught:
        flowvi.fit(log_density, parameters, effort="fast", **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_forgotten_sum() -> None:
    message = refused(lambda z: -z.square() / 2)
    assert "returned shape (5, 3) for 5 points: expected (5,)" in message and ".sum(-1)" in message
    assert "(6, 5) for 6 points" in refused(lambda z: -z.square(), 5)  # n is never D: the shapes tell them apart


@pytest.mark.parametrize(
    ("log_density", "found", "advice"),
    [
        (lambda z: good(z)[:, None], "(5, 1)", ".squeeze(-1)"),
        (lambda z: good(z).sum(), "()", "over the last dimension"),
        (lambda z: -z.square().sum(0), "(3,)", "vectorised=False"),
        (lambda z: torch.cat([good(z), good(z)]), "(10,)", "counts the points"),
    ],
)
def test_other_shapes(log_density: Any, found: str, advice: str) -> None:
    message = refused(log_density)
    assert f"returned shape {found} for 5 points" in message and advice in message


def test_a_forgotten_sum_over_a_named_vector() -> None:
    parameters = {"mu": s.real(), "theta": s.real(8)}
    message = refused(lambda p: -p["mu"].square()[:, None] - p["theta"].square(), parameters)
    assert "(5, 8)" in message


@pytest.mark.parametrize(
    ("log_density", "words"),
    [
        (
            lambda z: good(z).to(torch.complex64),
            "torch.complex64: expected torch.float32 or torch.float64; take the real",
        ),
        (lambda z: good(z).long(), "torch.int64"),
        (lambda z: good(z) < 0, "torch.bool"),
        (lambda z: good(z).half(), "torch.float16"),
        (lambda z: None, "returned a NoneType (was the return forgotten?): expected a torch.Tensor"),
        (lambda z: 3.0, "returned a float"),
        (lambda z: good(z).detach().numpy(), "returned a ndarray"),
        (lambda z: good(z).to("meta"), "a tensor on meta, the parameters are on cpu"),
    ],
)
def test_what_is_no_real_tensor_here(log_density: Any, words: str) -> None:
    assert words in refused(log_density)


@pytest.mark.parametrize(
    "log_density",
    [
        lambda z: good(z.detach()),
        lambda z: good(torch.tensor(z.tolist())),
        lambda z: torch.from_numpy(-np.square(z.detach().numpy()).sum(-1)),
        lambda z: torch.stack([torch.tensor(-point.square().sum().item()) for point in z]),
    ],
)
def test_no_gradient(log_density: Any) -> None:
    message = refused(log_density)
    assert "no gradient leads back" in message and ".item(), .numpy(), .detach()" in message


def test_no_gradient_to_one_parameter_of_several() -> None:
    def log_density(p: dict[str, Tensor]) -> Tensor:
        return -(p["mu"] - p["tau"].detach()).square()

    assert "to 'tau'" in refused(log_density, {"mu": s.real(), "tau": s.positive()})


def test_a_parameter_that_the_density_does_not_know_is_allowed() -> None:
    density = Density(lambda p: torch.zeros_like(p["u"]), Joint.of({"u": s.unit_interval(), "v": s.real()}))
    check_density(density, torch.randn(8, 2))


@pytest.mark.parametrize("inplace", [lambda z: z.add_(1), lambda z: z[:, 0].mul_(2), lambda z: z.clamp_(min=-9)])
def test_a_change_in_place(inplace: Any) -> None:
    def log_density(z: Tensor) -> Tensor:
        inplace(z)
        return good(z)

    assert "changes its argument 'z' in place" in refused(log_density)


def test_a_change_in_place_names_the_parameter() -> None:
    def log_density(p: dict[str, Tensor]) -> Tensor:
        p["tau"] += 1
        return -p["mu"].square() - p["tau"]

    assert "'tau' in place" in refused(log_density, {"mu": s.real(), "tau": s.positive()})


@pytest.mark.parametrize(
    "log_density",
    [
        lambda z: good(z - z.mean(0)),
        lambda z: good(z) / len(z),
        lambda z: good(z) + torch.rand(len(z)),
    ],
)
def test_a_value_that_depends_on_the_other_points(log_density: Any) -> None:
    assert "changes with the other points of the batch, or from call to call" in refused(log_density)


def test_a_squeeze_that_drops_a_single_point() -> None:
    message = refused(lambda z: -z.square().sum(-1, keepdim=True).squeeze())
    assert "returned shape () for 1 point" in message and ".squeeze()" in message


@pytest.mark.parametrize("value", [-torch.inf, torch.nan])
def test_no_finite_starting_point(value: float) -> None:
    message = refused(lambda z: good(z) + value)
    assert "not finite at any of 161 starting points" in message
    assert ("NaN at 161" if value != value else "-inf at 161") in message


def test_an_error_inside_is_the_users_own() -> None:
    def log_density(z: Tensor) -> Tensor:
        return z @ torch.ones(7)

    with pytest.raises(RuntimeError, match=r"size mismatch|inconsistent") as caught:
        flowvi.fit(log_density, 3)
    assert not isinstance(caught.value, FlowviError)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__ is False
    assert caught.traceback[-1].name == "log_density"


def test_an_error_inside_that_comes_late_is_the_users_own() -> None:
    calls = 0

    def log_density(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise KeyError("theirs")
        return good(z)

    with pytest.raises(KeyError, match="theirs"):
        flowvi.fit(log_density, 2, effort="fast")


@pytest.mark.parametrize("parameters", [0, -1, 2.0, True, "mu", {}, [s.real()], None])
def test_parameters_that_are_none(parameters: Any) -> None:
    assert "a whole number D of at least 1, or supports by name" in refused(good, parameters, ConfigError)


def test_a_support_that_was_not_called() -> None:
    assert "found the function real: call it, such as real()" in refused(good, {"mu": s.real}, ConfigError)
    assert "parameter 'mu': found 'real', expected a support" in refused(good, {"mu": "real"}, ConfigError)
    assert "a parameter's name is 1" in refused(good, {1: s.real()}, ConfigError)


def test_a_density_that_is_no_function() -> None:
    assert "log_density is a Tensor: expected a function" in refused(torch.zeros(3), 2, ConfigError)


def test_settings() -> None:
    with pytest.raises(ConfigError, match="effort = 'quick': expected fast, default, thorough"):
        flowvi.fit(good, 2, effort="quick")
    with pytest.raises(ConfigError, match=r"dtype = torch.float16: expected torch.float32 or torch.float64"):
        flowvi.fit(good, 2, dtype=torch.float16)
    with pytest.raises(ConfigError, match="did you mean 'planar'"):
        flowvi.fit(good, 2, flow="planer")


class Normals(torch.nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self) -> Any:
        return torch.distributions.Normal(torch.zeros(self.shape), 1.0)


def test_a_flow_that_is_none() -> None:
    assert "it gives a Normal: expected a distribution of event_shape (2,)" in refused(
        good, 2, ConfigError, flow=Normals((2,))
    )
    message = refused(good, 2, ConfigError, flow=flowvi.flows.Planar(3, length=2))
    assert "batch_shape () and event_shape (3,): expected a distribution of event_shape (2,)" in message


def test_one_point_at_a_time() -> None:
    message = refused(lambda z: -z.square() / 2, vectorised=False)
    assert "returned shape (3,) for one point (vectorised=False): expected ()" in message
    message = refused(lambda z: -z.detach().square().sum(), vectorised=False)
    assert "no gradient leads back" in message
