"""What each process does in the tests of data-parallel training; importable, so that it can be spawned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowvi.errors import NonFiniteError
from flowvi.experiments.assembly import load_data
from flowvi.experiments.config import Config
from flowvi.experiments.engine import Engine
from flowvi.experiments.train import _work

SIZES = (20, 7, 1)


def batches(features: int, samples: int) -> list[tuple[Tensor, Tensor]]:
    """Binary pixels and noise: an even batch, an odd one, and one row."""
    draw = torch.Generator().manual_seed(7)
    return [
        (
            torch.randint(2, (size, features), generator=draw).float(),
            torch.randn(samples, size, 2, generator=draw),
        )
        for size in SIZES
    ]


def measure(fabric: Any, config: Config) -> list[Any]:
    """The gradient and the means of each batch; then what the guard says of a NaN in the last row."""
    engine = Engine(fabric, config, load_data(config, fabric.device))
    engine.update = 4
    engine.prepare()
    found: list[Any] = []
    for x, noise in batches(engine.dataset.features, config.training.samples):
        engine.gradient(x, noise)
        gradient = torch.cat([p.grad.flatten() for p in engine.model.parameters() if p.grad is not None])
        found.append((gradient.tolist(), engine.read_means()))  # a tensor would not outlive its process
    x, noise = batches(engine.dataset.features, config.training.samples)[0]
    x[-1, 0] = float("nan")
    try:
        engine.gradient(x, noise)
    except NonFiniteError as error:
        found.append(str(error))
    return found


def measure_and_train(fabric: Any, config: Config, folder: Path) -> Any:
    """Both in one start of the processes, which is what takes the time."""
    return measure(fabric, config), _work(fabric, folder)
