"""The training step, batch 100: flowvi's whole step, in 32 bits and with networks in bfloat16, and others'.

The floor is in `benchmarks/floor.py`: the step's matrix products in the dtypes they have, and the fused update, and
nothing else. The earlier program is stepped as it trains itself, by RMSprop in float32.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

from benchmarks import peers
from benchmarks.floor import step_floor
from benchmarks.measure import Contender, Job, compete
from benchmarks.programs import BF16, TINY_MODEL, config_of, earlier_of, engine_of
from benchmarks.settings import Record, Settings

LENGTHS = 0, 10, 40, 80
CONTENDERS = {
    "flowvi": "Engine.step, all in float32",
    "flowvi bf16": "Engine.step with precision=bf16: encoder and decoder in bfloat16",
    "earlier": "drawcodeboy/Normalizing-Flow v1.0.0, re-implemented in benchmarks/earlier.py",
    "pyro": "Engine.step on the same model, its posterior pyro's ConditionalTransformedDistribution, a head a layer",
    "floor": "the matrix products of flowvi's step, and fused Adam",
    "floor bf16": "the same of the step with precision=bf16",
    "products": "the matrix products of flowvi's step alone",
}
BASELINES = "flowvi", "flowvi bf16", "floor", "floor bf16"


def measure(settings: Settings) -> dict[str, Any]:
    """All lengths; prints a line for each."""
    record = Record("step", settings, "ms", CONTENDERS)
    record.more["configs"] = {}
    tiny = {**TINY_MODEL, "training.batch": 10} if settings.tiny else {}
    for length in (0, 2) if settings.tiny else LENGTHS:
        overrides = {**tiny, **settings.overrides}
        config = config_of(length, overrides)
        record.more["configs"][str(length)] = config.to_dict()
        record.more["batch"] = config.training.batch
        engine, half = engine_of(config), engine_of(config_of(length, {**overrides, **BF16}))
        contenders: dict[str, Contender] = {
            "flowvi": Job(engine.step),
            "flowvi bf16": Job(half.step),
            "earlier": earlier_of(config)[1],
            "floor": step_floor(engine),
            "floor bf16": step_floor(half),
            "products": step_floor(engine, update=False),
        }
        if why := peers.missing("pyro-ppl"):
            record.lacks("pyro", why)
        elif length:
            contenders["pyro"] = Job(engine_of(config, "pyro").step)
        contest = compete(contenders, settings.effort(25.0, block=0.2, least=10))
        record.add({"K": length}, contest, BASELINES)
    return record.to_dict()
