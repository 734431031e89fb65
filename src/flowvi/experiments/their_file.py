"""A function in a Python file of the user's own: imported, and what it raises shown as theirs. Imports no torch."""

from __future__ import annotations

import difflib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowvi.errors import ConfigError, DensityError, FlowviError

__all__ = ["TheirFunction", "blamed", "parse_target", "their_function"]

TheirFunction = Callable[[Any], Any]


def parse_target(target: str) -> tuple[Path, str]:
    """The file and the function's name of `FILE.py:FUNCTION`.

    Raises:
        ConfigError: another form.

    Example:
        >>> parse_target("model.py")
        Traceback (most recent call last):
        ...
        flowvi.errors.ConfigError: 'model.py' names no function: expected FILE.py:FUNCTION, such as model.py:log_density
    """
    file, colon, name = target.rpartition(":")
    if not (colon and file and name.isidentifier()):
        given = target if target.endswith(".py") else "model.py"
        raise ConfigError(f"{target!r} names no function: expected FILE.py:FUNCTION, such as {given}:log_density")
    return Path(file), name


def their_function(file: Path, name: str) -> TheirFunction:
    """The function `name` of a file, which is imported: modules beside it are found.

    Raises:
        DensityError: the file raises; its own lines are shown.
        ConfigError: there is no such file, or no such function in it; names those that there are.
    """
    if not file.is_file():
        raise ConfigError(f"there is no file {file}")
    sys.path.insert(0, str(file.parent.resolve()))
    spec = importlib.util.spec_from_file_location(f"_fitted_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as import does: dataclasses look there
    with blamed(file, f"{file} raises when it is imported"):
        spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if callable(value) and _defined_in(value, spec.name)]
        near = difflib.get_close_matches(name, own, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"{file} has no function {name!r}: {hint}it defines {', '.join(own) or 'none'}")
    function: TheirFunction = found
    return function


def _defined_in(value: object, module: str) -> bool:
    return getattr(value, "__module__", None) == module


@contextmanager
def blamed(file: Path, what: str) -> Iterator[None]:
    """What their code raises becomes a `DensityError` that shows their lines and none of ours.

    Raises:
        DensityError: `what`, then the lines of the traceback that lie in the file or beside it, and the error.
    """
    try:
        yield
    except FlowviError:
        raise
    except (Exception, SystemExit) as error:
        folder = file.parent.resolve()
        every = traceback.extract_tb(error.__traceback__)  # <frozen importlib> is no file
        frames = [each for each in every if each.filename[:1] != "<" and Path(each.filename).resolve().parent == folder]
        if not frames and not isinstance(error, SyntaxError):
            raise  # ours
        shown = "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)])
        raise DensityError(f"{what}:\n{shown.rstrip()}") from None
