"""Configs: a preset's name and dotted overrides in, one checked and complete `Config` out. Imports no torch.

Defaults come in layers, each over the one before: schema, protocol, preset, the user's overrides. An option
of the flow that came from a protocol or a preset is dropped where the family in use does not take it; one that
the user gave is refused there.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import ValidationError

from flowvi.data.registry import entry_of
from flowvi.errors import CheckpointError, ConfigError
from flowvi.experiments.checks import conflicts, refused_options, refused_values
from flowvi.experiments.presets import PRESETS, Preset
from flowvi.experiments.protocols import PROTOCOLS
from flowvi.experiments.schema import (
    SECTIONS,
    DataConfig,
    FlowConfig,
    Least1,
    ModelConfig,
    Precision,
    Section,
    Seed,
    TrainingConfig,
)
from flowvi.flows.registry import FAMILIES, Option, family

__all__ = [
    "Config",
    "difference",
    "flatten",
    "keys",
    "parse_overrides",
    "resolve",
    "run_folder",
    "run_name",
    "runs_root",
    "unknown_key",
]

LONGEST_NAME = 120


class Config(Section):
    """A whole config. Made by `resolve` or `Config.from_dict`, which also check keys against one another.

    Example:
        >>> config = resolve("dlgm.nf10.mnist")
        >>> config.flow.kind, config.flow.length, config.training.protocol
        ('planar', 10, 'modern')
        >>> Config.from_dict(config.to_dict()) == config
        True
    """

    preset: str  # the name that it began from; the experiment is told by the other keys
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Least1 = 1
    precision: Precision = "32"
    data: DataConfig
    model: ModelConfig
    flow: FlowConfig
    training: TrainingConfig

    def to_dict(self) -> dict[str, Any]:
        """Nested and plain (JSON's own types), with every default written out: what `config.json` holds."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, saved: object, source: str | os.PathLike[str] = "config.json") -> Config:
        """The config that `to_dict` wrote, as JSON gave it back.

        A key that is absent takes the schema's default, if it has one.

        Raises:
            CheckpointError: `saved` is not the config of a run, or another version of flowvi wrote it.
        """
        if not isinstance(saved, Mapping) or not isinstance(saved.get("preset"), str):
            raise CheckpointError(f"{os.fspath(source)} is not the config of a flowvi run")
        flat = dict(flatten(saved))
        name = flat.pop("preset")
        known = set(keys())
        unknown = [f"unknown key {key!r}" for key in flat if key not in known]
        config = _checked(name, {key: value for key, value in flat.items() if key in known}, unknown)
        if isinstance(config, Config):
            return config
        rest = f"; and {len(config) - 3} more" if len(config) > 3 else ""
        raise CheckpointError(
            f"{os.fspath(source)} is damaged, or another version of flowvi wrote it: {'; '.join(config[:3])}{rest}"
        )

    def hash(self) -> str:
        """Twelve hex digits that are equal where the experiment is, seed apart.

        Neither the preset's name nor the folder of `data.path` enters: a data file counts by its own name.
        """
        plain = self.to_dict()
        del plain["seed"], plain["preset"]
        if self.data.path is not None:
            plain["data"]["path"] = PurePath(self.data.path).name
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def keys() -> list[str]:
    """Every dotted key that may be set, those of every family's options included."""
    found = [name for name in Config.model_fields if name not in SECTIONS and name != "preset"]
    for section, model in SECTIONS.items():
        found += [f"{section}.{name}" for name in model.model_fields if name != "options"]
    options = {name: None for entry in FAMILIES.values() for name in entry.options}
    return found + [f"flow.{name}" for name in options]


def flatten(nested: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The dotted keys and the values of a nested config."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """The overrides that `key=value` words spell. A value that is JSON is read as JSON, any other is a text.

    Raises:
        ConfigError: a word without `=`, or a key given twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"cannot read {word!r}: overrides are key=value, such as flow.length=40")
        if key in found:
            raise ConfigError(f"key {key!r} is given twice: keep one of them")
        try:
            found[key] = json.loads(value)
        except (ValueError, RecursionError):
            found[key] = value
    return found


def resolve(preset: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """The config of `preset` with `overrides`, by dotted key, on top.

    Raises:
        ConfigError: an unknown preset or key, or a value that is not allowed; one line for each.

    Example:
        >>> resolve("dlgm.nf10.mnist", {"flow.length": 40, "seed": 1}).flow.length
        40
        >>> resolve("dlgm.nf10.mnist", {"flow.lenght": 40})
        Traceback (most recent call last):
        flowvi.errors.ConfigError: unknown key 'flow.lenght': did you mean 'flow.length'?
    """
    entry = _preset(preset)
    given = {str(key): _plain(value) for key, value in (overrides or {}).items()}
    known = set(keys())
    unknown = [unknown_key(key) for key in given if key not in known]
    flat = _layers(entry, {key: given[key] for key in given if key in known})
    config = _checked(preset, flat, unknown)
    if isinstance(config, Config):
        return config
    raise ConfigError("\n".join(config))


def unknown_key(key: str, also: Iterable[str] = ()) -> str:
    """What to say of a key that does not exist; `also` are names that would have been right besides."""
    if key in SECTIONS:
        members = ", ".join(name for name in keys() if name.startswith(f"{key}."))
        return f"{key!r} is a group of keys: set one of {members}"
    names = [*keys(), *also]
    spellings = {name.rpartition(".")[2]: name for name in reversed(names)} | {name: name for name in names}
    near = difflib.get_close_matches(key, spellings, n=1)
    if near:
        return f"unknown key {key!r}: did you mean {spellings[near[0]]!r}?"
    return f"unknown key {key!r}: `flowvi configs NAME` shows every key of a config"


def runs_root() -> Path:
    """The folder under which runs are named: the environment's `FLOWVI_RUNS`, or `runs` where one stands."""
    return Path(os.environ.get("FLOWVI_RUNS") or "runs")


def run_name(preset: str, overrides: Mapping[str, Any] | None = None) -> str:
    """A folder's name for `preset` with `overrides`: `dlgm.nf10.mnist,flow.length=40`.

    The overrides but the seed are sorted, and written as the config holds them, so that `2e1` and `20` name
    the same folder. Lists are joined by dashes, a data file goes by its own name, and a character that a file
    name or a shell might trip over becomes a dash. A name of over 120 characters is cut and ends in its hash.

    Raises:
        ConfigError: as `resolve`.
    """
    values = dict(flatten(resolve(preset, overrides).to_dict()))
    parts = [f"{key}={_word(key, values[key])}" for key in sorted(overrides or {}) if key != "seed"]
    name = ",".join([preset, *parts])
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: LONGEST_NAME - len(digest) - 1]},{digest}"


def run_folder(preset: str, overrides: Mapping[str, Any] | None = None) -> Path:
    """The folder of a run that is given no other: `runs/<name>/<seed>`."""
    return runs_root() / run_name(preset, overrides) / str(resolve(preset, overrides).seed)


def difference(ours: Config, theirs: Config) -> list[str]:
    """A line for each key in which the config in a run folder (`ours`) and the present one (`theirs`) differ.

    The preset's name alone is no difference.
    """
    before, now = dict(flatten(ours.to_dict())), dict(flatten(theirs.to_dict()))
    lines = []
    for key in sorted({*before, *now} - {"preset"}):
        old, new = (_shown(key, values) for values in (before, now))
        if old != new:
            lines.append(f"{key}: {old} in the run folder, {new} now")
    return lines


def _preset(name: str) -> Preset:
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(str(name), PRESETS, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ConfigError(f"unknown config {name!r}: {hint}known configs are {', '.join(PRESETS)}")


def _plain(value: Any) -> Any:
    """A value from Python (a tuple, a path, a number of NumPy's) as the command line would have given it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # NumPy's scalars and 0-d arrays, without importing it. `item` also turns its booleans into Python's.
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value


def _layers(preset: Preset, given: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults that apply under the user's `given` keys, and those keys."""
    name = given.get("training.protocol", preset.settings.get("training.protocol", "modern"))
    protocol = PROTOCOLS[name] if isinstance(name, str) and name in PROTOCOLS else PROTOCOLS["modern"]
    defaults = {**protocol, **preset.settings}
    flat = {**defaults, **given}
    options = _options(flat.get("flow.kind", "planar"))
    for key in defaults.keys() - given.keys():
        section, _, name = key.rpartition(".")
        if section != "flow" or name in ("kind", "length"):
            continue
        if name not in options or not options[name].allowed.take(defaults[key]):
            del flat[key]
    if flat["training.optimiser"] != "rmsprop" and "training.momentum" not in given:
        flat["training.momentum"] = 0.0
    path = flat.get("data.path")
    if isinstance(path, str) and path and path.lower() not in ("none", "null"):
        flat["data.path"] = os.path.abspath(os.path.expanduser(path))
        if "data.name" not in given and not entry_of(str(flat["data.name"]), path).takes_file:
            flat["data.name"] = _file_stem(path)
    return flat


def _options(kind: object) -> Mapping[str, Option]:
    """The options of a kind of flow; none where there is no such kind."""
    try:
        return family(kind).options if isinstance(kind, str) else {}
    except ConfigError:
        return {}


def _file_stem(path: str) -> str:
    stem = "".join(c if c.isalnum() or c in "_.+-" else "-" for c in PurePath(path).stem)
    # the name of a data set that takes files would make it one of its files
    return f"{stem}-file" if entry_of(stem, path).takes_file else stem or "data"


def _checked(preset: str, flat: Mapping[str, Any], problems: list[str]) -> Config | list[str]:
    """The config of `flat`, or a line on each thing that is wrong, after the `problems` known already."""
    refused = dict(refused_options(flat))
    problems = [*problems, *refused.values()]
    nested: dict[str, Any] = {section: {} for section in SECTIONS}
    for key, value in flat.items():
        section, _, name = key.rpartition(".")
        if key not in refused:
            (nested[section] if section else nested)[name] = value
    try:
        config = Config.model_validate({"preset": preset, **nested})
    except ValidationError as error:
        return [*problems, *refused_values(error, flat, Config)]
    # Conflicts mean nothing before the keys themselves are right.
    return problems or list(conflicts(config)) or config


def _shown(key: str, values: Mapping[str, Any]) -> str:
    if key not in values:
        return "absent"
    value = values[key]
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def _word(key: str, value: Any) -> str:
    if isinstance(value, list):
        text = "-".join(map(str, value))
    elif value is None:
        text = "none"
    elif isinstance(value, str):
        text = PurePath(value).name if key == "data.path" else value
    else:
        text = json.dumps(value)
        text = text.removesuffix(".0") if isinstance(value, float) else text
    return re.sub(r"[^A-Za-z0-9._=+-]", "-", text)
