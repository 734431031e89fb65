"""The table of `flowvi reproduce cifar10`: the paper's Table 3 beside ours. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flowvi.errors import RunError
from flowvi.experiments.lines import read_lines
from flowvi.reports.columns import Section, Table
from flowvi.reports.published import CIFAR10_NLL
from flowvi.reports.tables import ABSENT, Record, number, or_absent, posterior

__all__ = ["sections", "table"]

_HEADER = (
    "posterior",
    "paper: −ln p(x)",
    "paper: gain",
    "−ln p(x)",
    "gain",
    "F(x)",
    "KL",
    "seeds",
    "updates",
)


def sections(folder: Path) -> list[Section]:
    """What a folder's `cifar10.jsonl` says.

    Raises:
        RunError: there are no results, or they cannot be read.
    """
    lines = folder / "cifar10.jsonl"
    records = read_lines(lines)
    if not records:
        raise RunError(f"there are no results in {lines}: run `flowvi reproduce cifar10` first")
    return [Section("Table 3: CIFAR-10", [table(records), *_notes(records)])]


def table(records: Iterable[Record]) -> Table:
    """−ln p(x) on CIFAR-10's patches beside the paper's, in nats.

    A row is one config, its seeds averaged; the gain is ln p(x) above that of K = 0.

    Example:
        >>> record = {"flow": "planar", "length": 2, "nll": -310.0, "nll_se": 2.5, "gain": 14.0, "gain_se": 0.5}
        >>> table([record]).rows
        [('planar flow, K = 2', '−308.6', '14.9', '−310.0 ± 2.5', '14.0 ± 0.5', '–', '–', '1', '–')]
    """
    groups: dict[tuple[int, str], list[Record]] = {}
    for record in records:
        groups.setdefault((int(record.get("length") or 0), str(record.get("config_hash"))), []).append(record)
    return Table(_HEADER, [_row(group) for _, group in sorted(groups.items())])


def _row(group: Sequence[Record]) -> tuple[str, ...]:
    first = group[0]
    paper = CIFAR10_NLL.get(first.get("length", -1))
    theirs = None if paper is None else CIFAR10_NLL[0] - paper
    gain = ABSENT if first.get("length") == 0 else _figure(group, "gain")
    return (
        posterior(first),
        number(paper, 1),
        number(theirs, 1) if theirs else ABSENT,
        _figure(group, "nll"),
        gain,
        _figure(group, "free_energy"),
        _figure(group, "kl"),
        _seeds(group),
        number(first.get("updates"), 0),
    )


def _figure(group: Sequence[Record], key: str) -> str:
    """The mean over seeds ± the mean standard error over patches, which the seeds share."""
    values: list[list[Any]] = [[record.get(name) for record in group] for name in (key, f"{key}_se")]
    if any(number(value) == ABSENT for some in values for value in some):
        return ABSENT
    return " ± ".join(number(statistics.fmean(some), 1) for some in values)


def _seeds(group: Sequence[Record]) -> str:
    if len(group) == 1:
        return "1"
    return f"{len(group)}, s.d. {number(statistics.stdev(float(record['nll']) for record in group), 1)}"


def _notes(records: Sequence[Record]) -> list[str]:
    """Sentences on the figures, and on how these results' data and training differ from the paper's."""

    def said(key: str) -> str:
        return " and ".join(dict.fromkeys(str(or_absent(record, key)) for record in records))

    notes = [
        "In nats for each patch of 3 × 8 × 8 pixels in (0, 1), where densities above 1 make −ln p(x) negative; mean ± "
        "standard error over the test patches, one of each test image. Gain: ln p(x) above that of K = 0, patch by "
        f"patch. −ln p(x) by importance sampling, S = {said('samples')}, which is biased up, the less, the more "
        f"samples. Paper: Rezende & Mohamed 2015, Table 3. Ours: {said('protocol')} protocol, {said('images')} test "
        "patches."
    ]
    subsets = dict.fromkeys(str(record["subset"]) for record in records if record.get("subset"))
    if subsets:
        notes.append(
            f"**Ours saw a subset of CIFAR-10: {'; '.join(subsets)}.** Its figures are not those of the whole data set."
        )
    return notes
