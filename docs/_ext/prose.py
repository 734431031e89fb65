"""Docstrings are plain text with `code` in backticks; this keeps Sphinx from reading more into them.

A star is a star, not the start of an emphasis; `features: D.` begins no list of which D is the number; and a colon in
what a function returns, or in the line on an attribute, is prose: napoleon would take what stands before it for a type.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_COLON = "\ue000"  # stands for a colon while napoleon reads
_SECTION = re.compile(r"^[A-Z][a-z]+:$")
_CODE = re.compile(r"(`[^`]*`)")
_NUMBER = re.compile(r"(?<=: )(?=(?:[A-Z]|\d+)\.(?:\s|$))")


def _before_napoleon(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    section = "Returns:" if what in ("attribute", "property", "data") else ""
    example = False
    for i, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if example:
            continue
        if _SECTION.match(line):
            section = line
            continue
        parts = _CODE.split(line)
        parts[::2] = [_NUMBER.sub(r"\\", part.replace("*", "\\*")) for part in parts[::2]]
        line = "".join(parts)
        lines[i] = line.replace(":", _COLON) if section == "Returns:" else line


def _after_napoleon(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
