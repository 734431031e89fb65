"""The examples: those of docstrings and of the pages are run, and what is public has one."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import flowvi

DOCS = Path(__file__).parents[2] / "docs"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ROOMS = ["flows", "inference", "models", "data"]
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n+)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def modules() -> Iterator[ModuleType]:
    """All of them, but for those that need a package which is not installed."""
    yield flowvi
    for entry in pkgutil.walk_packages(flowvi.__path__, "flowvi."):
        if entry.name == "flowvi.__main__":
            continue
        try:
            yield import_module(entry.name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] == "flowvi":
                raise


def doctests() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder()
    for module in modules():
        yield from (test for test in finder.find(module) if test.examples)


def public(room: str) -> Iterator[tuple[str, Any]]:
    """The classes and functions of a room's `__all__`, and its packages', by the name that they are defined under."""
    for module in modules():
        if not (f"{module.__name__}.".startswith(f"flowvi.{room}.") and hasattr(module, "__path__")):
            continue
        for value in (getattr(module, name) for name in getattr(module, "__all__", ())):
            if (inspect.isclass(value) or inspect.isroutine(value)) and value.__module__.startswith("flowvi."):
                yield f"{value.__module__}.{value.__qualname__}", value


def needs_an_example(value: Any) -> bool:
    return not (inspect.isclass(value) and (issubclass(value, BaseException) or getattr(value, "_is_protocol", False)))


@pytest.mark.parametrize("example", list(doctests()), ids=lambda example: example.name)
def test_a_docstring(example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append, clear_globs=False)
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_public_has_an_example(room: str) -> None:
    without = {name for name, value in public(room) if needs_an_example(value) and ">>>" not in (value.__doc__ or "")}
    assert not without, f"no example (>>>) in the docstring of {', '.join(sorted(without))}"


@pytest.mark.parametrize(
    "page", [page for page in sorted(DOCS.glob("*.md")) if BLOCK.search(page.read_text("utf-8"))], ids=lambda p: p.name
)
def test_the_blocks_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one namespace, each at its own line of the page, so that a traceback points there."""
    monkeypatch.chdir(tmp_path)
    text, namespace = page.read_text("utf-8"), {"__name__": page.stem}
    for block in BLOCK.finditer(text):
        if block[1] is None:
            lines = text.count("\n", 0, block.start(2))
            exec(compile("\n" * lines + block[2], str(page), "exec"), namespace)
