"""The programs that are timed whole: flowvi's engine, the same with pyro's flow, and the earlier reproduction's.

Ours are the library's own, nothing taken out: `Engine.step`, which `flowvi train` calls for each update (taking the
batch out of the data set, free energy, gradient, guard against numbers that are not finite, clipping, optimiser), and
`evidence_of_images`, which `flowvi test` calls for the images. The earlier program is `benchmarks.earlier`; its batch
lies ready as floats.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, redirect_stderr
from functools import partial
from io import StringIO
from itertools import cycle
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.earlier import EarlierDLGM, EarlierTrainer
from benchmarks.measure import Job
from benchmarks.peers import PyroFlow
from flowvi.data import Dataset
from flowvi.experiments.assembly import assemble, load_data
from flowvi.experiments.config import Config, resolve
from flowvi.experiments.engine import Engine, make_fabric
from flowvi.experiments.estimators.importance import evidence_of_images
from flowvi.inference import Evidence
from flowvi.models import DLGM

BATCH = 100
READY_BATCHES = 20
BF16 = {"precision": "bf16"}
TINY_MODEL = {"model.maxout": "32-8", "model.latents": [6]}


def config_of(length: int, overrides: Mapping[str, Any]) -> Config:
    """The paper's model with K planar layers on MNIST; K = 0 is a Gaussian. On the CPU, where all the others are."""
    preset = "dlgm.nf80.mnist" if length else "dlgm.nf0.mnist"
    return resolve(preset, {"training.batch": BATCH, **overrides, "flow.length": length, "device": "cpu"})


def engine_of(config: Config, flow: str = "flowvi") -> Engine:
    """The engine of `flowvi train`; with `flow` = pyro, another posterior in the same model and the same engine."""
    swap = patch("flowvi.experiments.engine.assemble", _with_pyro) if flow == "pyro" else nullcontext()
    with swap:
        engine = Engine(make_fabric(config), config, dataset_of(config))
    engine.model.train()
    return engine


def dataset_of(config: Config) -> Dataset:
    """The config's data, read once."""
    return _dataset(config.data.model_dump_json(), config)


def earlier_of(config: Config) -> tuple[EarlierTrainer, Job]:
    """The earlier program at the config's sizes, and one update of it."""
    dataset = dataset_of(config)
    torch.manual_seed(0)
    hidden = int(config.model.maxout.split("-")[1])
    model = EarlierDLGM(config.flow.length, pixels=dataset.features, hidden=hidden, latents=config.model.latents[0])
    trainer = EarlierTrainer(model)
    size = config.training.batch
    rows = torch.arange(min(READY_BATCHES * size, len(dataset.train)))
    batches = cycle([dataset.train.batch(some) for some in rows.split(size)])
    return trainer, Job(lambda: trainer.step(next(batches)))


def run_updates(engine: Engine, updates: int) -> None:
    """Leave the special numbers of a fresh start."""
    while engine.update < updates:
        engine.step()


def evidence(model: DLGM, config: Config, images: int, samples: int) -> Evidence:
    """What `flowvi test` computes for the first test images."""
    with redirect_stderr(StringIO()):  # not a terminal: no live bar for each pass
        return evidence_of_images(model.eval(), dataset_of(config).test, torch.arange(images), samples, seed=0)


def evidence_job(model: DLGM, config: Config, images: int, samples: int) -> Job:
    """The same, to be timed."""
    return Job(partial(evidence, model, config, images, samples), images)


def earlier_evidence_job(trainer: EarlierTrainer, config: Config, images: int, samples: int) -> Job:
    """−ln p(x) by the earlier program: one image at a time, as it does it."""
    pixels: Tensor = dataset_of(config).test.batch(torch.arange(images))
    model = trainer.model.eval()

    def run() -> list[float]:
        with torch.no_grad():
            return [model.nll(x, samples).item() for x in pixels.split(1)]

    return Job(run, images)


def _with_pyro(config: Config, features: int) -> DLGM:
    model = assemble(config, features)
    hidden = int(config.model.maxout.split("-")[1])
    model.flows[0] = PyroFlow(config.model.latents[0], hidden, config.flow.length)
    return model


_DATASETS: dict[str, Dataset] = {}


def _dataset(key: str, config: Config) -> Dataset:
    if key not in _DATASETS:
        _DATASETS[key] = load_data(config, torch.device("cpu"))
    return _DATASETS[key]
