"""What the ablations answer, in two sentences each, computed from the differences. Imports no torch.

The first sentence gives the figures, the second what they allow to say. Where an arm that it needs was not measured,
the second sentence is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from flowvi.experiments.arms.ablations import Ablation, Contrast
from flowvi.reports.claims import difference_words
from flowvi.reports.paired import Difference
from flowvi.reports.tables import number

__all__ = ["answer"]

Found = Sequence[tuple[Contrast, Difference]]

EARLIER_GAP = 18.0  # nats, between the earlier reproduction and the paper
TELLING = 0.5  # nats of −ln p(x): less than this is small beside what seeds and estimates leave open


def answer(ablation: Ablation, found: Found) -> str | None:
    """The answer that the measured differences of −ln p(x) give; None where there are none."""
    if not found:
        return None
    verdict = _VERDICTS[ablation.name](found) if ablation.name in _VERDICTS else None
    seeds = min(min(each.seeds) for _, each in found)
    some = "one seed" if seeds == 1 else f"{seeds} seeds"
    figures = "; ".join(_range(level, group) for level, group in _by_level(found).items())
    return " ".join(filter(None, [f"−ln p(x) moves by, in nats, {figures} ({some}).", verdict]))


def _by_level(found: Found) -> Mapping[str, list[Difference]]:
    groups: dict[str, list[Difference]] = {}
    for contrast, each in found:
        what = "a flow" if contrast.factor == "flow" else contrast.level
        groups.setdefault(f"{what} for {contrast.other}", []).append(each)
    return groups


def _range(level: str, group: Sequence[Difference]) -> str:
    if len(group) == 1:
        return f"{level}: {difference_words(group[0])}"
    means = [each.mean for each in group]
    return f"{level}: {number(min(means))} to {number(max(means))}"


def _means(found: Found, factor: str, *parts: str) -> list[float]:
    """Of the contrasts of a factor whose arm has all these levels."""
    return [
        each.mean for contrast, each in found if contrast.factor == factor and {*parts} <= {*contrast.arm.split("/")}
    ]


def _binarisation(found: Found) -> str | None:
    threshold, maxout = _means(found, "binarisation", "threshold"), _means(found, "maxout", "threshold")
    if not threshold or not maxout:
        return None
    gap, reading = -min(threshold), max(map(abs, maxout))
    if gap > 3 * reading:
        return (
            f"It is the threshold, worth up to {number(gap, 1)} of the {EARLIER_GAP:g} nats; the reading of Maxout is "
            f"worth {number(reading, 1)}."
        )
    return f"The threshold is worth {number(gap, 1)} nats and the reading of Maxout {number(reading, 1)}: both count."


def _source(found: Found) -> str | None:
    static = _means(found, "parameters", "static")
    if not static:
        return None
    if min(static) > TELLING:
        return f"Static parameters cost at least {number(min(static), 1)} nats: the inference network must give them."
    if max(static) < TELLING:
        return "Static parameters do as well: the inference network need not give them."
    return "Whether it must depends on K."


def _init(found: Found) -> str | None:
    effects = {name: _means(found, "init", name) for name in ("Adam 1e-3", "RMSprop 1e-4")}
    if not all(effects.values()):
        return None
    adam, rmsprop = (max(map(abs, values)) for values in effects.values())
    which = "it matters under both" if min(adam, rmsprop) > TELLING else "it matters under neither"
    if min(adam, rmsprop) <= TELLING < max(adam, rmsprop):
        which = f"it matters under {'Adam' if adam > rmsprop else 'RMSprop'} alone"
    return f"The start is worth up to {number(adam, 1)} nats under Adam, {number(rmsprop, 1)} under RMSprop: {which}."


def _invertibility(found: Found) -> str | None:
    centred = _means(found, "invertibility", "centred")
    if not centred:
        return None
    low, high = min(centred), max(centred)
    if high < -TELLING:
        return "The centred constraint is the better one at every K tried."
    if low > TELLING:
        return "The paper's constraint is the better one at every K tried."
    return (
        "Neither constraint is the better one at every K tried." if high - low > TELLING else "It makes no difference."
    )


_VERDICTS: Mapping[str, Callable[[Found], str | None]] = {
    "binarisation": _binarisation,
    "source": _source,
    "init": _init,
    "invertibility": _invertibility,
}
