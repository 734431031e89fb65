"""The estimators of `flowvi test` by name: what each takes, which function measures, what is shown. Imports no torch.

A new estimator is a function and one entry here: the command line, its errors, the files' names, which tests are the
same, and the table that is printed all read this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from flowvi.errors import ConfigError

__all__ = [
    "ESTIMATORS",
    "IDENTITY",
    "SETTINGS",
    "Estimator",
    "Figure",
    "Setting",
    "checked",
    "complete",
    "estimator_lines",
    "file_stem",
    "measuring",
    "usable",
]

IMAGES = 100  # of an annealed test, which takes minutes for each hundred


@dataclass(frozen=True)
class Setting:
    """One setting of a test.

    Attributes:
        default: the value where none is given. None stands for what `usual` says.
        words: the allowed values; none: whole numbers from 1 on.
        usual: what None stands for.
    """

    default: int | str | None = None
    words: tuple[str, ...] = ()
    usual: str = ""

    def take(self, name: str, value: Any) -> Any:
        """The value that is meant by `value`: 1e3 is 1000.

        Raises:
            ConfigError: it is not allowed.
        """
        if self.words:
            if value not in self.words:
                raise ConfigError(f"{name} cannot be {value!r}: it takes one of {', '.join(self.words)}")
            return value
        if value is None and self.default is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name} cannot be {value!r}: it takes a whole number, 1 or more")
        return value


class Figure(NamedTuple):
    """A row of the table: its name, the record's key (with `_se`, if there is one), its unit and its digits."""

    name: str
    key: str
    unit: str = "nats"
    digits: int = 2


@dataclass(frozen=True)
class Estimator:
    """One way to test.

    Attributes:
        summary: its name in full.
        how: how it was done, in a line; `{key}` is filled in from the record, here, in names and in units.
        measure: `module:function`, called with the model, the `Dataset`, the settings by name and the seed of its
            noise; returns `measured.Measured`.
        settings: by name. The first stands in the name of the result's file.
        figures: the rows of the table. A result whose figure in nats is absent or not finite is of no use.
        note: what to know in order to read them.
    """

    summary: str
    how: str
    measure: str
    settings: Mapping[str, Setting]
    figures: tuple[Figure, ...]
    note: str


_ANNEALED = {
    "distributions": Setting(1000),
    "chains": Setting(16),
    "initial": Setting("posterior", ("posterior", "prior")),
}
_CHAINS = "{chains} chains of {distributions} distributions from the {initial} for each image"
_OF_CHAINS = (
    Figure("effective chains", "effective_chains", "of {chains}"),
    Figure("  of the worst image", "effective_chains_min", "of {chains}"),
    Figure("lost chains", "lost", "of 1", 3),
)

ESTIMATORS: Mapping[str, Estimator] = {
    "is": Estimator(
        "importance sampling from the posterior",
        how="importance sampling, S = {samples} for each image",
        measure="flowvi.experiments.estimators.importance:measure",
        settings={"samples": Setting(200), "images": Setting(usual="all")},
        figures=(
            Figure("free energy F(x)", "free_energy"),
            Figure("−ln p(x)", "nll"),
            Figure("KL = F(x) + ln p(x)", "kl"),
            Figure("effective sample size", "effective_samples", "of {samples}"),
        ),
        note="−ln p(x) is an estimate by importance sampling, biased up, and KL with it down: "
        "the less, the more samples.",
    ),
    "ais": Estimator(
        "annealed importance sampling, beside importance sampling of the same images",
        how=f"annealed importance sampling, {_CHAINS}",
        measure="flowvi.experiments.estimators.annealing:ais",
        settings={**_ANNEALED, "images": Setting(usual=str(IMAGES))},
        figures=(
            Figure("free energy F(x)", "free_energy"),
            Figure("−ln p(x), annealed", "nll"),
            Figure("KL = F(x) + ln p(x)", "kl"),
            Figure("−ln p(x), S = {is_samples}", "is_nll"),
            Figure("  excess over annealed", "is_excess", digits=3),
            Figure("acceptance", "acceptance", "of 1"),
            *_OF_CHAINS,
        ),
        note="Either −ln p(x) is biased up: annealed the less, the more distributions and chains, by importance "
        "sampling the less, the more samples. KL takes the annealed one. Effective chains near 1 say that "
        "the annealing was too fast.",
    ),
    "bdmc": Estimator(
        "bidirectional Monte Carlo: ln p(x) between two bounds, on images that the model makes",
        how=f"bidirectional Monte Carlo, {_CHAINS} and direction",
        measure="flowvi.experiments.estimators.annealing:bdmc",
        settings={**_ANNEALED, "images": Setting(IMAGES)},
        figures=(
            Figure("ln p(x), lower bound", "log_evidence_lower"),
            Figure("ln p(x), upper bound", "log_evidence_upper"),
            Figure("gap", "gap", digits=3),
            Figure("acceptance, forward", "acceptance", "of 1"),
            Figure("acceptance, reverse", "reverse_acceptance", "of 1"),
            *_OF_CHAINS,
        ),
        note="The mean of ln p(x) over these images lies between the bounds, each in expectation; the gap bounds "
        "by how much annealing with these settings is off, forward or in reverse. That is for images that the "
        "model made, and not for those of a data set.",
    ),
}
"""By name, as `estimator=NAME` takes it."""

SETTINGS = ("estimator", *dict.fromkeys(name for entry in ESTIMATORS.values() for name in entry.settings))
"""The settings of all of them."""

IDENTITY = ("config_hash", "seed", *SETTINGS)
"""The keys by which two results are of the same test."""


def complete(estimator: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a test, those that are not given as they are by default.

    Raises:
        ConfigError: see `checked`.

    Example:
        >>> complete("is", {"images": 10})
        {'samples': 200, 'images': 10}
    """
    taken = checked(estimator, given)
    return {name: taken.get(name, setting.default) for name, setting in ESTIMATORS[estimator].settings.items()}


def checked(estimator: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are given, as they are meant: 1e3 is 1000.

    Raises:
        ConfigError: an estimator that does not exist, a setting that it does not take, a value that is not allowed.
    """
    if estimator not in tuple(ESTIMATORS):  # a list cannot be looked up
        raise ConfigError(f"estimator cannot be {estimator!r}: it takes one of {', '.join(ESTIMATORS)}")
    settings = ESTIMATORS[estimator].settings
    for name in given:
        if name not in settings:
            others = [other for other, entry in ESTIMATORS.items() if name in entry.settings]
            whose = f" ({name} is of estimator={' and '.join(others)})" if others else ""
            raise ConfigError(f"estimator={estimator} has no setting {name}: it takes {', '.join(settings)}{whose}")
    return {name: settings[name].take(name, value) for name, value in given.items()}


def file_stem(estimator: str, given: Mapping[str, Any]) -> str:
    """The name of a result's file: `result`, or `result-ESTIMATOR-FIRST`, and each other setting that is not usual.

    Example:
        >>> file_stem("is", {}), file_stem("is", {"images": 5}), file_stem("ais", {"chains": 4})
        ('result', 'result-is-200-images5', 'result-ais-1000-chains4')
    """
    settings = complete(estimator, given)
    if (estimator, settings) == ("is", complete("is", {})):
        return "result"
    (_, first), *rest = settings.items()
    usual = ESTIMATORS[estimator].settings
    words = [f"{name}{value}" for name, value in rest if value != usual[name].default]
    return "-".join(["result", estimator, str(first), *words])


def estimator_lines() -> Iterator[str]:
    """A line or two on each estimator, for the help of the command."""
    for name, entry in ESTIMATORS.items():
        yield f"estimator={name}: {entry.summary}"
        yield "  " + ", ".join(
            f"{key}={setting.default or setting.usual}{_choices(setting)}" for key, setting in entry.settings.items()
        )


def _choices(setting: Setting) -> str:
    others = [word for word in setting.words if word != setting.default]
    return f" (or {', '.join(others)})" if others else ""


def usable(record: Mapping[str, Any]) -> bool:
    """Whether every figure in nats is there, and finite; of an unknown estimator those of `is`."""
    entry = ESTIMATORS.get(str(record.get("estimator")), ESTIMATORS["is"])
    values = [record.get(figure.key) for figure in entry.figures if figure.unit == "nats"]
    return all(_finite(value) for value in values)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def measuring(estimator: str) -> Any:
    """The function that measures, imported now."""
    module, name = ESTIMATORS[estimator].measure.split(":")
    return getattr(import_module(module), name)
