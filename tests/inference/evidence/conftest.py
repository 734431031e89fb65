"""Cheap targets: the annealing of small models is all overhead."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Size, Tensor


class Normal:
    """N(mean, diag(scale²)), of batch_shape and event_shape those of `mean`, (batch…, D)."""

    def __init__(self, mean: Tensor, scale: Tensor | float = 1.0) -> None:
        self.mean, self.scale = mean, torch.as_tensor(scale, dtype=mean.dtype).expand(mean.shape)
        self.batch_shape, self.event_shape = mean.shape[:-1], mean.shape[-1:]

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.mean + self.scale * torch.randn(*Size(sample_shape), *self.mean.shape, dtype=self.mean.dtype)

    def log_prob(self, z: Tensor) -> Tensor:
        noise = (z - self.mean) / self.scale
        return -0.5 * noise.square().sum(-1) - self.scale.log().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)


@pytest.fixture
def normal() -> type[Normal]:
    return Normal
