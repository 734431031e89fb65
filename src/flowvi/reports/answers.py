"""What the ablations answer, in two sentences each, computed from the differences. Imports no torch.

The first sentence gives the figures, the second what the 95 % intervals of those with seeds enough for a claim allow to
say. Where none that it needs has, the second sentence is left out.
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
UNDECIDED = "These results do not decide it."
TELLING = 0.5  # nats of −ln p(x): less than this is small beside what seeds and estimates leave open


def answer(ablation: Ablation, found: Found) -> str | None:
    """The answer that the measured differences of −ln p(x) give; None where there are none."""
    if not found:
        return None
    sure = [(contrast, each) for contrast, each in found if each.enough]
    verdict = _VERDICTS[ablation.name](sure) if sure and ablation.name in _VERDICTS else None
    counts = {min(each.seeds) for _, each in found}
    some = "one" if min(counts) == 1 else f"{min(counts)}"
    some += f" to {max(counts)} seeds" if len(counts) > 1 else " seed" if counts == {1} else " seeds"
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


def _of(found: Found, factor: str, *parts: str) -> list[Difference]:
    """Of the contrasts of a factor whose arm has all these levels."""
    return [each for contrast, each in found if contrast.factor == factor and {*parts} <= {*contrast.arm.split("/")}]


def _sign(found: Sequence[Difference]) -> str | None:
    """`above`, `below` or `within` TELLING of 0, where the interval of every difference says so; else None."""
    intervals = [each.interval for each in found]
    if all(low > TELLING for low, _ in intervals):
        return "above"
    if all(high < -TELLING for _, high in intervals):
        return "below"
    return "within" if all(low >= -TELLING and high <= TELLING for low, high in intervals) else None


def _largest(found: Sequence[Difference]) -> float:
    """The farthest from 0 that the intervals go."""
    return max(abs(bound) for each in found for bound in each.interval)


def _binarisation(found: Found) -> str | None:
    threshold, maxout = _of(found, "binarisation", "threshold"), _of(found, "maxout")
    if not threshold or not maxout:
        return None
    least, reading = min(-each.interval[1] for each in threshold), _largest(maxout)
    if least <= reading:
        return UNDECIDED
    first = "" if least > 3 * reading else "first "
    return (
        f"It is {first}the threshold, worth at least {number(least, 1)} nats where the "
        f"earlier reproduction is {EARLIER_GAP:g} below the paper; the reading of Maxout is worth {number(reading, 1)} "
        "at most."
    )


def _source(found: Found) -> str | None:
    verdicts = {
        "above": f"Static parameters cost over {TELLING} nats at each K tried: the inference network must give them.",
        "below": "Static parameters are the better ones at each K tried: the inference network must not give them.",
        "within": "Static parameters do as well at each K tried: the inference network need not give them.",
    }
    return _say(_of(found, "parameters"), verdicts)


def _init(found: Found) -> str | None:
    effects = {name: _of(found, "init", name) for name in ("Adam 1e-3", "RMSprop 1e-4")}
    if not all(effects.values()):
        return None
    intervals = [each.interval for group in effects.values() for each in group]
    worse = (f"{sum(each.interval[0] > 0 for each in group)} of {len(group)}" for group in effects.values())
    counts = " and in ".join(f"{count} under {name}" for count, name in zip(worse, effects, strict=True))
    better = sum(high < 0 for _, high in intervals) or "none"
    gains = [-each.interval[0] for start in ("xavier", "normal") for each in _of(found, "flow", start)]
    buys = f"; a flow that starts so buys {number(max(0, *gains), 1)} nats at most" if gains else ""
    return f"Another start than the identity is worse in {counts} (static or amortised), better in {better}{buys}."


def _invertibility(found: Found) -> str | None:
    verdicts = {
        "above": "The paper's constraint is the better one at each K tried.",
        "below": "The centred constraint is the better one at each K tried.",
        "within": "It makes no difference at any K tried.",
    }
    return _say(_of(found, "invertibility"), verdicts)


def _say(found: Sequence[Difference], verdicts: Mapping[str, str]) -> str | None:
    return verdicts.get(_sign(found) or "", UNDECIDED) if found else None


_VERDICTS: Mapping[str, Callable[[Found], str | None]] = {
    "binarisation": _binarisation,
    "source": _source,
    "init": _init,
    "invertibility": _invertibility,
}
