"""What every part is told, and what every part writes down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measure import TINY, Contest, Effort, circumstances, load


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    tiny: bool = False
    """Sizes and repeats so small that the times mean nothing: to see that everything runs."""
    prepare: bool = False
    """Full sizes, each contender run a few times: fills the caches of compilers, and its times mean little."""
    threads: int = 2
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Keys of flowvi's config, on top of the preset's."""

    def effort(self, seconds: float, *, block: float = 0.03, least: int = 5, slow: float = 60.0) -> Effort:
        """To spend `seconds` on one set of contenders, unless nothing is to be spent at all."""
        return TINY if self.tiny or self.prepare else Effort(seconds, block, least, slow=slow)


class Record:
    """What a part measured, growing row by row; `to_dict` is what its file holds."""

    def __init__(self, part: str, settings: Settings, unit: str, contenders: Mapping[str, str]) -> None:
        self.part, self.settings, self.unit = part, settings, unit
        self.contenders = dict(contenders)
        self.machine = circumstances()
        self.missing: dict[str, str] = {}
        self.cells: list[dict[str, Any]] = []
        self.more: dict[str, Any] = {}

    def add(self, sizes: Mapping[str, int], contest: Contest, baselines: Iterable[str], **more: Any) -> None:
        """Keep a contest, and print a line of it."""
        cell = {"sizes": dict(sizes), **contest.to_dict(*baselines), **more}
        self.cells.append(cell)
        where = " ".join(f"{name}={value}" for name, value in sizes.items())
        times = "   ".join(f"{name} {text(each)}" for name, each in cell["times"].items())
        print(f"{self.part:<11} {where:<18} {times}", flush=True)

    def lacks(self, contender: str, why: str) -> None:
        """Say, once, that a contender does not take part."""
        if contender not in self.missing:
            print(f"{self.part:<11} {contender}: {why}", flush=True)
        self.missing.setdefault(contender, why)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested numbers, for JSON."""
        return {
            "part": self.part,
            "unit": self.unit,
            "tiny": self.settings.tiny,
            "overrides": dict(self.settings.overrides),
            "machine": {**self.machine, "load_average_after": load()},
            "contenders": self.contenders,
            "missing": self.missing,
            "cells": self.cells,
            **self.more,
        }


def text(spread: Mapping[str, float], unit: str = "") -> str:
    """Median [quartiles], three significant digits."""
    return f"{spread['median']:.3g}{unit} [{spread['lower']:.3g}, {spread['upper']:.3g}]"
