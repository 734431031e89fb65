"""What the pages bring along is, byte for byte, what its SOURCE.md says."""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "_static" / "mathjax"
CHECKSUM = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"


def test_mathjax_is_the_original() -> None:
    assert hashlib.sha256((FOLDER / "tex-svg.js").read_bytes()).hexdigest() == CHECKSUM
    source = (FOLDER / "SOURCE.md").read_text("utf-8")
    assert CHECKSUM in source and "npm package mathjax 3.2.2" in source
    assert "Apache License" in (FOLDER / "LICENSE").read_text("utf-8")
