"""The search for an amortised posterior: mean-field, full-rank and flows, each from the one before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowvi.errors import ConfigError
from flowvi.flows.registry import family
from flowvi.inference.fitting.amortised.contexts import Contexts
from flowvi.inference.fitting.amortised.density import RowDensity
from flowvi.inference.fitting.amortised.gap import Alone, fit_alone, spread_out
from flowvi.inference.fitting.amortised.posterior import Amortised
from flowvi.inference.fitting.amortised.result import AmortisedStage
from flowvi.inference.fitting.amortised.rows import average_elbo, weigh_rows
from flowvi.inference.fitting.amortised.start import find_start
from flowvi.inference.fitting.amortised.train import EXACT, train
from flowvi.inference.fitting.amortised.verdict import RowsMeasured
from flowvi.inference.fitting.effort import Effort
from flowvi.inference.fitting.kinds import _options
from flowvi.inference.fitting.optimise import Block
from flowvi.inference.fitting.search import Progress

__all__ = ["RowSearch", "best_stage", "flow_kinds"]

_JUDGED = 256  # rows, at most, that an ELBO or a verdict is from
_LEAST = 50  # draws of each, at least
_WEIGHED = 20  # a row's weights take so much less than all the draws that the effort has for ln Z
_WORTH = 0.01  # nats: less is not worth a richer posterior, whatever its error


def flow_kinds(flow: Any, features: int, kinds: Sequence[str]) -> Sequence[str]:
    """The kinds of flow to fit: the effort's, or the one that is named; none where that is a Gaussian.

    Raises:
        ConfigError: no kind of `flowvi.flows.build`.
    """
    if flow is None:
        return ["planar"] if features == 1 else list(dict.fromkeys(kinds))
    if not isinstance(flow, str):
        raise ConfigError(
            f"flow is a {type(flow).__name__}: with a context, name a kind of flowvi.flows.build, such as 'realnvp'"
        )
    return [flow] if family(flow).chain else []


@dataclass
class RowSearch:
    """The stages found so far: all of use whenever it is interrupted."""

    density: RowDensity
    contexts: Contexts
    effort: Effort
    kinds: Sequence[str]
    progress: Callable[[Progress], object] | None = None
    stages: list[AmortisedStage] = field(default_factory=list)
    interrupted: bool = False

    def run(self) -> None:
        """Fit the stages; a richer one is not fitted where the weights are all but equal already.

        Raises:
            KeyboardInterrupt: before there is anything to return.
        """
        try:
            start = find_start(self.density, self.contexts.training)
            full_rank = self._stage("mean-field", Amortised(start, full=False))
            if self.density.joint.size > 1 and not self._exact():
                full_rank = self._stage("full-rank", Amortised(start), full_rank)
            for kind in self.kinds:
                if not self._exact():
                    self._stage(kind, Amortised(start, kind, **_options(kind)), full_rank)
        except KeyboardInterrupt:
            self.interrupted = True
            if not self.stages:
                raise

    def measure(self) -> RowsMeasured:
        """The best stage on held-out rows, and beside posteriors fitted to a few of them alone."""
        module, rows = best_stage(self.stages).module, self.contexts.held_out[:_JUDGED]
        found = weigh_rows(module, self.density, rows, self.effort.evidence // _WEIGHED, self.contexts.outside(rows))
        alone: list[Alone | None] = []
        try:
            for row in [] if self.interrupted else spread_out(found.effective):
                alone.append(fit_alone(module, self.density, rows, row))
        except KeyboardInterrupt:
            self.interrupted = True
        low, high = self.contexts.range
        told = tuple(each for each in alone if each is not None)
        return RowsMeasured(rows=found, alone=told, low=low, high=high, interrupted=self.interrupted)

    def _stage(self, name: str, module: Amortised, before: AmortisedStage | None = None) -> AmortisedStage:
        started = time.process_time()

        def report(block: Block) -> None:
            if self.progress:
                self.progress(Progress(name, block.elbo, block.se, block.rate))

        if before:
            module.begin_from(before.module)
        trace = train(module, self.density, self.contexts.training, self.effort, report)
        module.requires_grad_(False)
        both = [
            average_elbo(module, self.density, rows, max(_LEAST, 4 * self.effort.draws // len(rows)))
            for rows in (self.contexts.training[:_JUDGED], self.contexts.held_out[:_JUDGED])
        ]
        stage = AmortisedStage(
            name=name,
            module=module,
            trace=trace,
            training=both[0],
            held_out=both[1],
            seconds=time.process_time() - started,
        )
        self.stages.append(stage)
        if trace.interrupted:
            raise KeyboardInterrupt
        return stage

    def _exact(self) -> bool:
        found = self.stages[-1].held_out
        return found.spread.max().item() < EXACT


def best_stage(stages: Sequence[AmortisedStage]) -> AmortisedStage:
    """A later stage where its ELBO on held-out rows is higher by twice the error of paired differences, and 0.01."""
    best = stages[0]
    for stage in stages[1:]:
        gain, error = stage.held_out.gain(best.held_out)
        if gain > max(2 * error if math.isfinite(error) else 0.0, _WORTH):
            best = stage
    return best
