"""The words on the command line that make a config. Imports no torch."""

from __future__ import annotations

import json
import shlex
from pathlib import PurePath
from typing import Any

from flowvi.errors import ConfigError
from flowvi.experiments.config import Config, flatten, parse_overrides, resolve

__all__ = ["config_words"]

# set first: the defaults of other keys come from them
LEADING = ("training.protocol", "flow.kind", "flow.length", "data.path")


def config_words(config: Config) -> str | None:
    """What follows `flowvi train` or `flowvi test` to make this config, quoted for a shell.

    As few overrides as give it; a data file goes by its own name. None where this version's presets cannot
    give it.

    Example:
        >>> config_words(resolve("dlgm.nf10.mnist", {"training.protocol": "quick", "seed": 3}))
        '--config=dlgm.nf10.mnist training.protocol=quick seed=3'
    """
    wanted = dict(flatten(config.to_dict()))
    try:
        overrides = _overrides(config.preset, wanted)
        words = [f"{key}={_spelled(key, value)}" for key, value in overrides.items()]
        if resolve(config.preset, parse_overrides(words)).hash() != config.hash():
            return None
    except ConfigError:  # another version's preset
        return None
    return shlex.join([f"--config={config.preset}", *words])


def _overrides(preset: str, wanted: dict[str, Any]) -> dict[str, Any]:
    plain = dict(flatten(resolve(preset).to_dict()))
    first = {key: wanted[key] for key in LEADING if wanted[key] != plain.get(key)}
    base = dict(flatten(resolve(preset, first).to_dict()))
    rest = {key: value for key, value in wanted.items() if key not in first and base.get(key, ...) != value}
    seed = {"seed": rest.pop("seed")} if "seed" in rest else {}
    return {**first, **rest, **seed}


def _spelled(key: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return PurePath(value).name if key == "data.path" else value
    return json.dumps(value, separators=(",", ":"))
