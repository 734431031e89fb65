"""Claims about the flows of Figure 4, and what the results say to them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from flowvi.experiments.arms.figure4 import ARMS, GAUSSIAN, IN_TIME, LENGTHS, OTHERS
from flowvi.reports.paired import Difference
from flowvi.reports.tables import number

__all__ = ["CLAIMS", "TOO_FEW", "Claim", "Finding", "difference_words", "judge"]

CONFIRMED, NOT_CONFIRMED, REFUTED, TOO_FEW = "confirmed", "not confirmed", "refuted", "not enough seeds"

Compare = Callable[[str, str, str], Difference | None]
"""From an arm, another, and `free_energy` or `nll` to their difference."""


@dataclass(frozen=True)
class Claim:
    """That in each pair the first arm's figure is the lower one.

    Attributes:
        words: the claim.
        figure: `free_energy` or `nll`.
        pairs: of arms.
    """

    words: str
    figure: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Finding:
    """What the results say to a claim: the verdict, and the difference of each pair."""

    claim: Claim
    verdict: str
    differences: tuple[Difference | None, ...]

    def lines(self) -> Iterator[str]:
        """The verdict with the claim, a line on each pair that was measured, and one that names the others."""
        yield f"{self.verdict}: {self.claim.words}"
        for words, found in self.measured().items():
            yield f"  {words}; seeds: {' and '.join(map(str, dict.fromkeys(found.seeds)))}"
        pairs = zip(self.claim.pairs, self.differences, strict=True)
        missing = [f"{ours} − {theirs}" for (ours, theirs), found in pairs if found is None]
        if missing:
            yield f"  not measured: {', '.join(missing)}"

    def measured(self) -> dict[str, Difference]:
        """The differences that were measured, by their words."""
        pairs = zip(self.claim.pairs, self.differences, strict=True)
        return {f"{ours} − {theirs}: {difference_words(found)}": found for (ours, theirs), found in pairs if found}


def _steps(flow: str) -> tuple[tuple[str, str], ...]:
    arms = [GAUSSIAN, *(f"{flow}-{length}" for length in LENGTHS)]
    return tuple((more, fewer) for fewer, more in pairwise(arms))


def _versus(flow: str, other: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{flow}-{length}", f"{other}-{length}") for length in LENGTHS)


CLAIMS: tuple[Claim, ...] = (
    Claim("more flow, better bound: planar F(x) falls with every step of K", "free_energy", _steps("planar")),
    Claim("more flow, better bound: NICE F(x) falls with every step of K", "free_energy", _steps("nice")),
    Claim(
        "more flow, better bound: planar F(x) falls from K = 0 to 10, and from 10 to 80",
        "free_energy",
        (("planar-10", GAUSSIAN), ("planar-80", "planar-10")),
    ),
    Claim("planar is ahead of NICE at each K, by F(x)", "free_energy", _versus("planar", "nice")),
    Claim("planar is ahead of NICE at each K, by −ln p(x)", "nll", _versus("planar", "nice")),
    Claim(
        "planar is ahead of NICE at K = 10 in equal training time, by F(x)", "free_energy", (("planar-10", IN_TIME),)
    ),
    *(
        Claim(f"{arm.title}, is ahead of planar, K = 80, by −ln p(x)", "nll", ((arm.name, "planar-80"),))
        for arm in ARMS
        if arm.name in (*OTHERS, "nice-10")
    ),
)


def judge(claim: Claim, compare: Compare) -> Finding:
    """The verdict on a claim, by the 95 % interval of each pair's difference.

    `confirmed`: each lies below 0 (that all do is no easier by chance than that one does). `refuted`: one lies above 0,
    whatever the others do (of four pairs one does by chance in a tenth of all cases at most).
    `not enough seeds`: neither, and a pair has fewer than three on a side, or none. `not confirmed`: all else.
    """
    found = tuple(compare(ours, theirs, claim.figure) for ours, theirs in claim.pairs)
    return Finding(claim, _verdict(found), found)


def _verdict(found: Sequence[Difference | None]) -> str:
    known = [each for each in found if each is not None and each.enough]
    if any(each.interval[0] > 0 for each in known):
        return REFUTED
    if len(known) < len(found):
        return TOO_FEW
    return CONFIRMED if all(each.interval[1] < 0 for each in known) else NOT_CONFIRMED


def difference_words(found: Difference | None) -> str:
    """Such as `−1.23 [−1.60, −0.86]`; with too few seeds for an interval, ± the standard error over images."""
    if found is None:
        return "not measured"
    mean = number(found.mean)
    if found.enough:
        low, high = found.interval
        return f"{mean} [{number(low)}, {number(high)}]"
    return f"{mean} ± {number(found.image_error)}"
