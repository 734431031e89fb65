"""The two jobs that the foundation is measured by: a training step, and −ln p(x) of an image.

Ours are the library's own, nothing taken out: `Engine.step`, which `flowvi train` calls for each update, and
`evidence_of_images`, which `flowvi test` calls for the images.  The baseline is `benchmarks.earlier`.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from itertools import cycle
from typing import Any

import torch

from benchmarks.earlier import EarlierDLGM, EarlierTrainer
from benchmarks.measure import Duel, Job, duel
from flowvi.experiments.assembly import load_data
from flowvi.experiments.config import Config, resolve
from flowvi.experiments.engine import Engine, make_fabric
from flowvi.experiments.evaluate import evidence_of_images
from flowvi.inference import Evidence

BATCH = 100
READY_BATCHES = 20
UPDATES_BEFORE_TEST = 20


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    pairs: int = 20
    """Pairs of blocks of training steps."""
    steps: int = 10
    """Training steps in a block."""
    test_pairs: int = 8
    """Pairs of passes over the test images."""
    images: int = 100
    """Test images, the same for both."""
    samples: int = 200
    """S, importance samples for each image."""


class Contest:
    """Both programs at one flow length, on the same images.

    Args:
        length: K, a length that `dlgm.nf<K>.mnist` exists for.
        overrides: further keys of flowvi's config.
        effort: how long to measure.
    """

    def __init__(self, length: int, overrides: Mapping[str, Any] | None = None, effort: Effort | None = None) -> None:
        self.effort = effort or Effort()
        # The batch is the task; the device is the one that the baseline runs on.
        fixed = {"device": "cpu", "training.batch": BATCH}
        self.config: Config = resolve(f"dlgm.nf{length}.mnist", {**(overrides or {}), **fixed})
        self.dataset = load_data(self.config, torch.device("cpu"))
        self.engine = Engine(make_fabric(self.config), self.config, self.dataset)
        torch.manual_seed(0)
        self.earlier = EarlierTrainer(EarlierDLGM(length, pixels=self.dataset.features))

    def training_step(self) -> Duel:
        """Milliseconds for one update on a batch of 100."""
        rows = torch.arange(min(READY_BATCHES * BATCH, len(self.dataset.train)))
        batches = cycle(self.dataset.train.batch(some) for some in rows.split(BATCH))
        self.engine.model.train()
        self.earlier.model.train()
        earlier = Job(lambda: self.earlier.step(next(batches)))
        return duel(earlier, Job(self.engine.step), pairs=self.effort.pairs, calls=self.effort.steps)

    def evidence(self) -> Duel:
        """Milliseconds for −ln p(x) of one image."""
        self._leave_the_start()
        rows = torch.arange(self.effort.images)
        images = self.dataset.test.batch(rows)
        ours, theirs = self.engine.model.eval(), self.earlier.model.eval()
        samples = self.effort.samples

        def flowvi() -> Evidence:
            return evidence_of_images(ours, self.dataset.test, rows, samples, seed=0)

        def earlier() -> list[float]:
            with torch.no_grad():
                return [theirs.nll(x, samples).item() for x in images.split(1)]

        with redirect_stderr(StringIO()):  # not a terminal: no live bar for each pass
            return duel(Job(earlier, len(rows)), Job(flowvi, len(rows)), pairs=self.effort.test_pairs)

    def _leave_the_start(self) -> None:
        """A few updates of both, so that nobody is timed on the special numbers of a fresh start."""
        batch = self.dataset.train.batch(torch.arange(BATCH))
        while self.engine.update < UPDATES_BEFORE_TEST:
            self.engine.step()
        while self.earlier.updates < UPDATES_BEFORE_TEST:
            self.earlier.step(batch)
