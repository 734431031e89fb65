"""Other libraries' chains, each used as its documentation says: functions that give the image and the log-determinant.

- pyro-ppl: `ConditionalPlanar(nn)`, whose `nn` gives each layer's b, u and w out of a context, here either a linear
  head of that layer's own, or the row of a tensor that holds the parameters already; and `Planar`, without context.
  A layer is called, then asked for its `log_abs_det_jacobian`, which it has kept: that is what `rsample` and `log_prob`
  of its distributions do.
- normflows: `Planar` in a `NormalizingFlow`, by `forward_and_log_det`. It takes no context.
- nflows and zuko have no planar or radial flow: they take part with the flows that flowvi has too, in `others.py`.
- flowjax runs in a process of its own: see `jax_worker.py`.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import installed

Image = tuple[Tensor, Tensor]


def missing(package: str) -> str | None:
    """Why a peer cannot take part; None where it can."""
    return None if installed(package) else "not installed"


def split(features: int, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """pyro's order, b, u, w, of a layer's parameters in ours, w, u, b: (…, 2D + 1)."""
    w, u, b = values.split([features, features, 1], dim=-1)
    return b, u, w


class Head(nn.Module):
    """A linear layer from a context to what one of pyro's conditional planar layers takes."""

    def __init__(self, context: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(context, 2 * features + 1)
        self.features = features

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return split(self.features, self.linear(context))


def through(transforms: Iterable[Any], z: Tensor) -> Image:
    """z through transforms of torch's kind."""
    total: Tensor | float = 0.0
    for transform in transforms:
        moved = transform(z)
        total = total + transform.log_abs_det_jacobian(z, moved)
        z = moved
    assert isinstance(total, Tensor)
    return z, total


def pyro_given(length: int, features: int) -> Callable[[Tensor, Tensor], Image]:
    """K layers whose parameters, (B, K, 2D + 1), are there: each layer's context is its own row of them."""
    from pyro.distributions.transforms import ConditionalPlanar

    layers = [ConditionalPlanar(partial(split, features)) for _ in range(length)]

    def run(z: Tensor, parameters: Tensor) -> Image:
        return through([layer.condition(row) for layer, row in zip(layers, parameters.unbind(1), strict=True)], z)

    return run


def pyro_heads(length: int, features: int, context: int) -> nn.ModuleList:
    """K conditional layers, each with a linear head of its own."""
    from pyro.distributions.transforms import ConditionalPlanar

    return nn.ModuleList(ConditionalPlanar(Head(context, features)) for _ in range(length))


def pyro_conditioned(layers: Iterable[Any], z: Tensor, context: Tensor) -> Image:
    """z through layers that take a context."""
    return through([layer.condition(context) for layer in layers], z)


def pyro_static(parameters: Tensor) -> nn.ModuleList:
    """K layers without context that start at `parameters`, (K, 2D + 1)."""
    from pyro.distributions.transforms import Planar

    layers = nn.ModuleList(Planar(parameters.shape[-1] // 2) for _ in parameters)
    for layer, row in zip(layers, parameters, strict=True):
        b, u, w = split(layer.input_dim, row)  # type: ignore[arg-type]
        for name, value in (("bias", b), ("u", u), ("w", w)):
            with torch.no_grad():
                getattr(layer, name).copy_(value)
    return layers


def normflows_static(parameters: Tensor) -> Any:
    """K layers without context that start at `parameters`, (K, 2D + 1)."""
    import normflows

    features = parameters.shape[-1] // 2
    layers = []
    for row in parameters.detach():
        b, u, w = split(features, row)
        layers.append(normflows.flows.Planar((features,), u=u[None].clone(), w=w[None].clone(), b=b.clone()))
    return normflows.NormalizingFlow(normflows.distributions.DiagGaussian(features), layers)


class PyroFlow(nn.Module):
    """A posterior of pyro's in the place of one of flowvi's: `ConditionalTransformedDistribution` on a Gaussian."""

    def __init__(self, features: int, context: int, length: int) -> None:
        super().__init__()
        self.base = nn.Linear(context, 2 * features)
        self.layers = pyro_heads(length, features, context)

    def forward(self, context: Tensor) -> PyroPosterior:
        import pyro.distributions as dist

        mean, log_scale = self.base(context).chunk(2, dim=-1)
        base = dist.Normal(mean, log_scale.exp()).to_event(1)
        return PyroPosterior(dist.ConditionalTransformedDistribution(base, list(self.layers)).condition(context))


class PyroPosterior:
    """The two names that flowvi's objective asks for."""

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution
        self.batch_shape = distribution.batch_shape

    def rsample_and_log_prob(self, shape: tuple[int, ...] = ()) -> Image:
        """A sample, and its density while the layers still hold what they computed for it."""
        z = self.distribution.rsample(torch.Size(shape))
        return z, self.distribution.log_prob(z)
