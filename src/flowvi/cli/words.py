"""What the words of a command mean: runs, settings, overrides."""

from __future__ import annotations

import difflib
import re
import shlex
from pathlib import Path
from typing import Any

from flowvi.errors import ConfigError, RunError
from flowvi.experiments.estimators.registry import SETTINGS, checked

__all__ = ["axes_of", "existing", "no_config", "run_by_config", "run_by_folder", "test_words"]


def axes_of(words: list[str]) -> dict[str, list[Any]]:
    """The values of keys that words spell; unknown keys are refused before any work."""
    from flowvi.experiments.config import keys, unknown_key
    from flowvi.experiments.sweeps.grid import parse_grid

    loose, axes = parse_grid(words)
    problems = [f"{word!r} is a word without '='" for word in loose]
    problems += [unknown_key(key) for key in axes if key not in keys()]
    if problems:
        raise ConfigError("\n".join(problems))
    return axes


def no_config(command: str, words: list[str]) -> ConfigError:
    """What to say where a command lacks `--config`."""
    from flowvi.experiments.presets import PRESETS

    for word in words:
        near = difflib.get_close_matches(word, PRESETS, n=1)
        if "=" not in word and near:
            return ConfigError(f"{word!r} is a word without '=': did you mean --config={near[0]}?")
    example = f"flowvi {command} --config={next(iter(PRESETS))}"
    return ConfigError(f"no config is given: `flowvi configs` lists them; for example `{example}`")


def test_words(words: list[str]) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """The words of `flowvi test`, as run folders, settings of the test, and overrides by key, unread.

    A run folder's own name may hold `=` (`runs/dlgm.nf10.mnist,flow.length=40/0`), but only after a comma or
    a slash, which no key has.
    """
    from flowvi.experiments.config import parse_overrides

    pairs = [word for word in words if re.match(r"[\w.-]*=", word)]
    given = parse_overrides(pairs)
    overrides = {key: word for key, word in zip(given, pairs, strict=True) if key not in SETTINGS}
    settings = {key: given[key] for key in given if key in SETTINGS}
    own = {key: value for key, value in settings.items() if key != "estimator"}
    settings |= checked(settings.get("estimator", "is"), own)
    return [word for word in words if word not in pairs], settings, overrides


def run_by_folder(folders: list[str], overrides: list[str]) -> Path:
    """The run that is named by its folder alone."""
    from flowvi.experiments.presets import PRESETS

    if len(folders) == 1 and folders[0] in PRESETS and not Path(folders[0]).exists():
        raise no_config("test", folders)
    if overrides:
        raise ConfigError(
            f"{overrides[0]!r} is not a setting of a test, which are {', '.join(SETTINGS)}; "
            "a config's keys need --config=NAME"
        )
    if not folders:
        raise ConfigError("no run is given: name a run folder, or a config as --config=NAME")
    if len(folders) > 1:
        raise ConfigError(f"{len(folders)} run folders are given ({', '.join(folders)}): test one at a time")
    return existing(folders[0])


def run_by_config(config: str, out: Path | None, folders: list[str], overrides: dict[str, str]) -> Path:
    """The run that `flowvi train` makes of a config and overrides (by key, as the words that gave them)."""
    from flowvi.experiments.config import keys, parse_overrides, run_folder, unknown_key

    if folders:
        raise ConfigError(f"--config={config} and the run folder {folders[0]!r} are both given: leave one of them out")
    unknown = [unknown_key(key, also=SETTINGS) for key in overrides if key not in keys()]
    if unknown:
        raise ConfigError("\n".join(unknown))
    words = list(overrides.values())
    folder = run_folder(config, parse_overrides(words))
    command = shlex.join(["flowvi", "train", f"--config={config}", *words, *(["--out", str(out)] if out else [])])
    return existing(out or folder, f": train it first with `{command}`")


def existing(folder: str | Path, hint: str = "") -> Path:
    """The run folder at `folder`; where there is none, an error that names those one level below."""
    path = Path(folder)
    if (path / "config.json").is_file():
        return path
    inner = sorted(str(found.parent) for found in path.glob("*/config.json"))
    if inner:
        raise RunError(f"{path} is not a run folder, but holds some: give one of {', '.join(inner[:5])}")
    if not path.exists():
        raise RunError(f"there is no run folder {path}{hint}")
    raise RunError(f"{path} is not a run folder: it has no config.json{hint}")
