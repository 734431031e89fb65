"""Two directives that ask the package itself, so that no page lists by hand what the package lists already.

`room` documents every name of a package's or module's `__all__`; `families` is the registry of flows as a table.
"""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from flowvi.flows.registry import FAMILIES


class Room(SphinxDirective):
    """The names of `__all__`, each by autodoc: classes, then functions, then the rest.

    autodoc's own `automodule` looks into the module's dictionary, where names that are imported upon their first use
    (PEP 562) are not. With `without`, the names that another page has.
    """

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"without": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """The nodes of every name's own directive."""
        room = import_module(self.arguments[0])
        without = self.options.get("without", "").split()
        names = [name for name in room.__all__ if name not in without and not name.startswith("__")]
        values = {name: getattr(room, name) for name in names}
        lines = []
        for name in sorted(names, key=lambda name: (_order(values[name]), name.lower())):
            if isinstance(values[name], ModuleType):
                continue
            directive = _directive(values[name])
            lines += [f".. {directive}:: {room.__name__}.{name}", ""]
            if directive == "py:data":  # autodoc would show the docstring of its type
                lines += [*(f"   {line}" for line in _told(room, name)), ""]
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *lines, "```"]))


class Families(SphinxDirective):
    """The kinds of flow: what makes them, what they cost, how they are inverted, their papers and their options."""

    def run(self) -> list[nodes.Node]:
        """A table of the kinds, and under it one of their options."""
        lines = ["| kind | class | multiplications a layer | inverse | paper |", "|---|---|---|---|---|"]
        for kind, entry in FAMILIES.items():
            name = entry.target.partition(":")[2]
            made = f"{{py:class}}`~flowvi.flows.{name}`"
            lines.append(f"| `{kind}` | {made} | {entry.cost} | {entry.inverse} | {entry.reference} |")
        of: dict[tuple[str, str, str, str], list[str]] = {}
        for kind, entry in FAMILIES.items():
            for name, option in entry.options.items():
                row = name, option.help, str(option.allowed), _written(option.default)
                of.setdefault(row, []).append(f"`{kind}`")
        lines += ["", "| option | what it says | values | default | of |", "|---|---|---|---|---|"]
        for (name, about, allowed, default), kinds in of.items():
            lines.append(f"| `{name}` | {about} | {allowed} | `{default}` | {', '.join(kinds)} |")
        return self.parse_text_to_nodes("\n".join(lines))


def _order(value: Any) -> int:
    return ("autoclass", "autoexception", "autofunction", "py:data").index(_directive(value))


def _directive(value: Any) -> str:
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if inspect.isroutine(value) else "py:data"


def _told(room: ModuleType, name: str) -> list[str]:
    """The docstring that stands below a constant, in whichever module of the room defines it."""
    below = (f"{room.__name__}.{entry.name}" for entry in pkgutil.iter_modules(getattr(room, "__path__", ())))
    for module in (room.__name__, *below):
        told = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", name))
        if told:
            return list(told)
    return []


def _written(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_directive("room", Room)
    app.add_directive("families", Families)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
