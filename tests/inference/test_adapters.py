"""Log densities of other packages: values and gradients as torch's, errors in words, Pyro's models."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import flowvi
from flowvi import supports as s
from flowvi.adapters import from_pyro, from_value_and_grad
from flowvi.errors import ConfigError, DensityError
from flowvi.inference.fitting.checks import check_density
from flowvi.inference.fitting.density import Density
from flowvi.inference.fitting.joint import Joint

SCALE = np.array([1.0, 2.0, 0.5])


def one(x: Any) -> tuple[float, Any]:
    """N(0, SCALE²), not normalised, at one point."""
    assert x.dtype == np.float64 and x.shape == (3,)
    return -0.5 * float(((x / SCALE) ** 2).sum()), -x / SCALE**2


def many(x: Any) -> tuple[Any, Any]:
    return -0.5 * ((x / SCALE) ** 2).sum(-1), -x / SCALE**2


def exact(x: Tensor) -> Tensor:
    return -0.5 * (x / torch.as_tensor(SCALE, dtype=x.dtype)).square().sum(-1)


@pytest.mark.parametrize(("function", "batched"), [(one, False), (many, True)])
def test_values_and_gradients(function: Any, batched: bool, dtype: torch.dtype) -> None:
    log_density = from_value_and_grad(function, batched=batched)
    x = torch.randn(7, 3, dtype=dtype, requires_grad=True)
    along = torch.randn(7, dtype=dtype)
    (slope,) = torch.autograd.grad(log_density(x), x, along)
    (wanted,) = torch.autograd.grad(exact(x), x, along)
    assert log_density(x).dtype == dtype
    torch.testing.assert_close(log_density(x), exact(x))
    torch.testing.assert_close(slope, wanted)
    check_density(Density(log_density, Joint.of(3), vectorised=True), torch.randn(8, 3, dtype=dtype))


def test_parameters_by_name() -> None:
    def function(p: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        return -p["tau"].sum() + float(p["mu"]), {"mu": np.ones(()), "tau": -np.ones(2)}

    joint = Joint.of({"mu": s.real(), "tau": s.positive(2)})
    density = Density(from_value_and_grad(function), joint)
    z = torch.randn(8, 3, dtype=torch.float64)
    check_density(density, z)
    value, slope = density.value_and_gradient(z)
    torch.testing.assert_close(value, z[:, 0] - z[:, 1:].exp().sum(-1) + z[:, 1:].sum(-1))
    torch.testing.assert_close(slope, torch.cat([torch.ones(8, 1).double(), 1 - z[:, 1:].exp()], -1))


def test_a_fit() -> None:
    found = flowvi.fit(from_value_and_grad(many, batched=True), 3, seed=0, effort="fast", flow="gaussian")
    assert found.log_evidence == pytest.approx(1.5 * math.log(2 * math.pi) + math.log(SCALE.prod()), abs=1e-2)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: -1.0, r"^the function returned a float: expected a pair, \(value, gradient\)$"),
        (lambda x: (x, x), r"^the function returned a value of shape \(2,\): expected \(\)$"),
        (lambda x: (0.0, x[:1]), r"^a gradient of shape \(1,\): expected that of the point, \(2,\)$"),
    ],
)
def test_what_comes_back_is_wrong(function: Any, says: str) -> None:
    with pytest.raises(DensityError, match=says):
        from_value_and_grad(function)(torch.zeros(4, 2))


def test_gradients_by_name_are_wrong() -> None:
    with pytest.raises(DensityError, match=r"^the gradient is a ndarray: expected a dict of mu$"):
        from_value_and_grad(lambda p: (0.0, np.zeros(2)))({"mu": torch.zeros(4, 2)})
    with pytest.raises(DensityError, match=r"^a gradient of 'mu' of shape \(\): expected that of the point, \(2,\)$"):
        from_value_and_grad(lambda p: (0.0, {"mu": 0.0}))({"mu": torch.zeros(4, 2)})


def test_what_the_function_raises_is_its_own() -> None:
    def function(x: Any) -> Any:
        raise ZeroDivisionError("theirs")

    with pytest.raises(ZeroDivisionError, match=r"^theirs$"):
        from_value_and_grad(function)(torch.zeros(4, 2))


# --- Pyro ---------------------------------------------------------------------------------------------------


def test_without_pyro(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyro", None)
    with pytest.raises(ConfigError, match=r"^from_pyro needs the package pyro-ppl: pip install pyro-ppl$"):
        from_pyro(lambda: None)


@pytest.fixture
def pyro() -> Any:
    return pytest.importorskip("pyro", reason="pyro-ppl is not installed: from_pyro is for those who have it")


def test_supports_and_densities_of_a_model(pyro: Any) -> None:
    dist = pyro.distributions

    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfNormal(2.0))
        pyro.sample("w", dist.Dirichlet(torch.ones(3)))
        pyro.sample("u", dist.Uniform(-1.0, 2.0).expand([2]).to_event(1))
        pyro.sample("c", dist.LKJCholesky(2, 1.0))
        with pyro.plate("groups", 4):
            pyro.sample("y", dist.Normal(mu, tau), obs=y)

    y = torch.arange(4.0)
    log_density, supports = from_pyro(model, y)
    assert supports == {
        "mu": s.real(), "tau": s.positive(), "w": s.simplex(3), "u": s.interval(-1, 2, 2),
        "c": s.correlation_cholesky(2),
    }  # fmt: skip
    assert not log_density.__self__.looped  # mapped, not called point by point
    joint = Joint.of(supports)
    values = joint.constrain(torch.randn(6, joint.size))[0]
    prior = dist.Normal(0.0, 5.0).log_prob(values["mu"]) + dist.HalfNormal(2.0).log_prob(values["tau"])
    prior = prior + math.log(2) - 2 * math.log(3) - math.log(2)
    wanted = prior + dist.Normal(values["mu"][:, None], values["tau"][:, None]).log_prob(y).sum(-1)
    torch.testing.assert_close(log_density(values), wanted, rtol=1e-4, atol=1e-4)
    check_density(Density(log_density, joint), torch.randn(8, joint.size))


def test_a_model_that_vmap_cannot_map_is_looped(pyro: Any) -> None:
    def model() -> None:
        x = pyro.sample("x", pyro.distributions.Normal(0.0, 1.0))
        scale = 1.0 if x > 0 else 2.0
        pyro.sample("y", pyro.distributions.Normal(0.0, scale), obs=torch.tensor(0.0))

    log_density, _ = from_pyro(model)
    assert log_density.__self__.looped
    found = log_density({"x": torch.tensor([-1.0, 1.0])})
    torch.testing.assert_close(found[1] - found[0], torch.tensor(math.log(2)))


def test_models_that_cannot_be_fitted(pyro: Any) -> None:
    dist = pyro.distributions

    def dependent() -> None:
        pyro.sample("b", dist.Uniform(0.0, pyro.sample("a", dist.Uniform(0.0, 1.0))))

    models = {
        "the support of the site 'b' depends on other sites": dependent,
        "the site 'k' is discrete: sum it out": lambda: pyro.sample("k", dist.Poisson(2.0)),
        "the site 'k' of shape .* has the support GreaterThanEq": lambda: pyro.sample("k", dist.Pareto(1.0, 1.0)),
        "the model has no latent site": lambda: None,
    }
    for says, model in models.items():
        with pytest.raises(ConfigError, match=f"^{says}"):
            from_pyro(model)
