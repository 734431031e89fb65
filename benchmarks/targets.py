"""What the numbers are to reach, and what they are: ratios of medians in one run, with the quartiles of the rounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Records = Mapping[str, Mapping[str, Any]]
"""The parts' records by their names; parts may be absent."""


@dataclass(frozen=True)
class Target:
    """One time over another, in one cell of one part. Of several `over`, the least time counts."""

    part: str
    sizes: Mapping[str, int]
    over: Sequence[str]
    under: str
    sign: str
    wanted: float


@dataclass(frozen=True)
class Finding:
    """A target, and the figure; None where it was not measured."""

    text: str
    sign: str
    wanted: float
    measured: float | None = None
    lower: float | None = None
    """First quartile of the ratios within the rounds."""
    upper: float | None = None

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.wanted if self.sign == "≥" else self.measured <= self.wanted


_CHAIN = {"K": 80, "D": 40, "B": 100}
_IMAGE = {"K": 80, "S": 200}
TARGETS = (
    Target("chain", _CHAIN, ["reference"], "flowvi", "≥", 15),
    Target("chain", _CHAIN, ["compiled"], "flowvi", "≥", 3),
    Target("chain", _CHAIN, ["pyro"], "flowvi", "≥", 10),
    Target("chain", _CHAIN, ["pyro static", "normflows static"], "flowvi static", "≥", 10),
    Target("chain", _CHAIN, ["flowjax"], "flowvi", "≥", 1.5),
    Target("chain", _CHAIN, ["flowjax static"], "flowvi static", "≥", 1.5),
    Target("chain", _CHAIN, ["flowjax head"], "flowvi head", "≥", 1.5),
    Target("step", {"K": 80}, ["earlier"], "flowvi", "≥", 3.5),
    Target("step", {"K": 80}, ["earlier"], "flowvi bf16", "≥", 5),
    Target("step", {"K": 0}, ["earlier"], "flowvi", "≥", 1.8),
    Target("step", {"K": 80}, ["flowvi"], "floor", "≤", 1.3),
    Target("step", {"K": 0}, ["flowvi"], "floor", "≤", 1.4),
    Target("step", {"K": 80}, ["flowvi bf16"], "floor bf16", "≤", 1.3),
    Target("step", {"K": 0}, ["flowvi bf16"], "floor bf16", "≤", 1.4),
    Target("likelihood", _IMAGE, ["earlier"], "flowvi", "≥", 15),
    Target("likelihood", _IMAGE, ["earlier"], "flowvi bf16", "≥", 25),
    Target("likelihood", _IMAGE, ["flowvi"], "products", "≤", 1.5),
    Target("likelihood", _IMAGE, ["flowvi bf16"], "products bf16", "≤", 1.5),
)


def findings(records: Records) -> list[Finding]:
    """Every target with what was measured."""
    found = [_ratio(target, records) for target in TARGETS]
    return [*found, *_moved(records), *_doubling(records)]


def table(records: Records) -> str:
    """The targets beside the figures."""
    tiny = "tiny sizes: these times mean nothing\n" if any(record.get("tiny") for record in records.values()) else ""
    lines = [f"{tiny}{'ratio of medians [quartiles of the ratios within rounds]':<80}{'target':>9}{'measured':>26}"]
    for each in findings(records):
        figure, verdict = "not measured", ""
        if each.measured is not None:
            spread = "" if each.lower is None else f" [{each.lower:.3g}, {each.upper:.3g}]"
            figure, verdict = f"{each.measured:.3g}{spread}", "" if each.met else "  missed"
        lines.append(f"{each.text:<80}{f'{each.sign} {each.wanted:g}':>9}{figure:>26}{verdict}")
    return "\n".join(lines)


def to_dicts(records: Records) -> list[dict[str, Any]]:
    """For JSON."""
    return [{**asdict(each), "met": each.met} for each in findings(records)]


def cell(record: Mapping[str, Any], sizes: Mapping[str, int]) -> Mapping[str, Any] | None:
    """A record's cell of these sizes."""
    return next((each for each in record.get("cells", ()) if each["sizes"] == sizes), None)


def _ratio(target: Target, records: Records) -> Finding:
    where = ", ".join(f"{name} = {value}" for name, value in target.sizes.items())
    found = cell(records.get(target.part, {}), target.sizes)
    times = found["times"] if found else {}
    there = [name for name in target.over if name in times]
    over = min(there, key=lambda name: times[name]["median"], default=" or ".join(target.over))
    text = f"{target.part}, {where}: {over} / {target.under}"
    if not found or not there or target.under not in times:
        return Finding(text, target.sign, target.wanted)
    measured = times[over]["median"] / times[target.under]["median"]
    rounds = found["ratios"][target.under][over]
    return Finding(text, target.sign, target.wanted, measured, rounds["lower"], rounds["upper"])


def _moved(records: Records) -> Iterator[Finding]:
    found = cell(records.get("likelihood", {}), _IMAGE)
    text = "likelihood, K = 80, S = 200: |−ln p(x) in bf16 − in 32 bits|, nats"
    yield Finding(text, "≤", 0.02, abs(found["nll_moved_by_bf16"]) if found else None)


def _doubling(records: Records) -> Iterator[Finding]:
    lines = [each for each in records.get("growth", {}).get("cells", ()) if "doubling" in each]
    text = "growth: step at K = 160 / step at K = 80"
    if not lines:
        yield Finding(text, "≤", 2.0)
        return
    times, rounds = lines[0]["times"], lines[0]["doubling"]
    yield Finding(text, "≤", 2.0, times["160"]["median"] / times["80"]["median"], rounds["lower"], rounds["upper"])
