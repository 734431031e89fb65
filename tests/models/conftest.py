"""A tiny DLGM whose flow is far from the identity, and a flow class that flowvi has never seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Laplace

from flowvi.flows import Planar
from flowvi.models import DLGM


class LaplaceWithLogProb(Independent):
    """A distribution of torch's own with the one method that a posterior needs beside."""

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        z = self.rsample(torch.Size(sample_shape))
        return z, self.log_prob(z)


class ForeignFlow(nn.Module):
    def __init__(self, features: int, context: int) -> None:
        super().__init__()
        self.head = nn.Linear(context, 2 * features)

    def forward(self, context: Tensor) -> LaplaceWithLogProb:
        location, log_scale = self.head(context).chunk(2, -1)
        return LaplaceWithLogProb(Laplace(location, log_scale.exp()), 1)


@pytest.fixture
def foreign_flow() -> type[nn.Module]:
    return ForeignFlow


@pytest.fixture
def tiny() -> Callable[..., DLGM]:
    """Makes a DLGM of 5 pixels in float64; its decoder's weights are large enough to matter."""

    def make(*latents: int, features: int = 5, flow: Any = None, **options: Any) -> DLGM:
        flow = flow or partial(Planar, length=3, init="normal")
        model = DLGM(features, latents or (2,), flow, **{"maxout": (8, 4), **options}).double()
        with torch.no_grad():
            for parameter in model.decoder.parameters():
                parameter.mul_(2)
        return model

    return make
