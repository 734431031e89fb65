"""−ln p(x) of a test image from S importance samples: milliseconds for each image, and the decoder's products.

flowvi runs the evaluation of `flowvi test`, which gives the free energy and the effective sample size as well; the
earlier program gives −ln p(x) alone, one image at a time. With pyro's posterior the evaluation is flowvi's. The floor
is the two products of the decoder for all samples, in chunks of the evaluation's size, into memory that is there.

A pass has as many images as are cheap enough: 100 with S = 200, fewer with S = 5000 and of the slow. How far bfloat16
moves −ln p(x), for the same noise, is recorded too, after some updates of training.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import peers
from benchmarks.floor import decoder_floor
from benchmarks.measure import Contender, compete
from benchmarks.programs import (
    BF16,
    TINY_MODEL,
    config_of,
    earlier_evidence_job,
    earlier_of,
    engine_of,
    evidence,
    evidence_job,
    run_updates,
)
from benchmarks.settings import Record, Settings
from flowvi.experiments.config import Config
from flowvi.models import DLGM

LENGTHS, SAMPLES = (0, 80), (200, 5000)
IMAGES = {200: 100, 5000: 4}
SLOW_IMAGES = {200: 10, 5000: 1}
"""Of the earlier program."""
PYRO_IMAGES = {200: 25, 5000: 1}
"""As many as fill one of the evaluation's chunks."""
UPDATES = 200
UPDATES_OF_OTHERS = 20
"""Enough to leave the start; what they compute is not compared."""
CONTENDERS = {
    "flowvi": "the evaluation of `flowvi test`, all in float32",
    "flowvi bf16": "the same weights and evaluation, encoder and decoder in bfloat16",
    "earlier": "drawcodeboy/Normalizing-Flow v1.0.0, re-implemented in benchmarks/earlier.py",
    "pyro": "flowvi's evaluation of the same model with pyro's ConditionalTransformedDistribution",
    "products": "the decoder's matrix products for S samples an image, float32",
    "products bf16": "the same in bfloat16",
}
BASELINES = "flowvi", "flowvi bf16", "products", "products bf16"


def measure(settings: Settings) -> dict[str, Any]:
    """All lengths and numbers of samples; prints a line for each."""
    record = Record("likelihood", settings, "ms an image", CONTENDERS)
    overrides = {**(TINY_MODEL if settings.tiny else {}), **settings.overrides}
    for length in (0, 2) if settings.tiny else LENGTHS:
        programs = Programs(config_of(length, overrides), settings, record)
        for samples in (3,) if settings.tiny else SAMPLES:
            images = IMAGES.get(samples, 2)
            contenders = programs.contenders(samples, images)
            contest = compete(contenders, settings.effort(25.0, block=0.1))
            moved, se = programs.moved(samples, images)
            speed = {name: 1e3 / median(times) for name, times in contest.times.items()}
            more = {"nll_moved_by_bf16": moved, "nll_moved_by_bf16_se": se, "images_per_second": speed}
            counts = {name: job.units for name, job in contenders.items()}
            record.add({"K": length, "S": samples}, contest, BASELINES, images=counts, **more)
    record.more["updates"] = programs.updates
    return record.to_dict()


class Programs:
    """The programs at one K, a little trained."""

    def __init__(self, config: Config, settings: Settings, record: Record) -> None:
        self.config = config
        self.updates = 2 if settings.tiny or settings.prepare else UPDATES
        engine = engine_of(config)
        run_updates(engine, self.updates)
        self.model = engine.model
        self.half = in_bf16(config, self.model)
        self.earlier, update = earlier_of(config)
        for _ in range(min(self.updates, UPDATES_OF_OTHERS)):
            update.run()
        self.pyro: DLGM | None = None
        if why := peers.missing("pyro-ppl"):
            record.lacks("pyro", why)
        elif config.flow.length:
            engine = engine_of(config, "pyro")
            run_updates(engine, min(self.updates, UPDATES_OF_OTHERS))
            self.pyro = engine.model

    def contenders(self, samples: int, images: int) -> dict[str, Contender]:
        """A pass over `images` of each, the slow ones over fewer."""
        few = min(images, SLOW_IMAGES.get(samples, 2))
        rows = images * samples
        found: dict[str, Contender] = {
            "flowvi": evidence_job(self.model, self.config, images, samples),
            "flowvi bf16": evidence_job(self.half, self.config, images, samples),
            "earlier": earlier_evidence_job(self.earlier, self.config, few, samples),
            "products": decoder_floor(self.model, rows, images),
            "products bf16": decoder_floor(self.half, rows, images),
        }
        if self.pyro is not None:
            found["pyro"] = evidence_job(self.pyro, self.config, min(images, PYRO_IMAGES.get(samples, 2)), samples)
        return found

    def moved(self, samples: int, images: int) -> tuple[float, float]:
        """How much larger the mean −ln p(x) is in bfloat16, and the standard error of that difference, in nats."""
        full, half = (evidence(model, self.config, images, samples).log_evidence for model in (self.model, self.half))
        difference = full - half
        return difference.mean().item(), (difference.std() / len(difference) ** 0.5).item()


def in_bf16(config: Config, model: DLGM) -> DLGM:
    """A copy of the model with its networks in bfloat16."""
    half = engine_of(config.model_copy(update=BF16)).model
    half.load_state_dict(model.state_dict())
    return half
