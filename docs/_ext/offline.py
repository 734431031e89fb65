"""A warning, hence a failed build, for each page that would load anything from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

# What a browser fetches by itself; links (`<a href>`) are for the reader to follow.
_TAGS = re.compile(r"<(?:script|link|img|iframe|source|object|embed|video|audio)\b[^>]*>")
_ELSEWHERE = re.compile(r"""\b(?:src|href|data)\s*=\s*["']?(?:https?:)?//""")
_CSS = re.compile(r"""(?:@import\s*|url\(\s*)(?:url\()?["']?(?:https?:)?//""")


def _check(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    logger = logging.getLogger(__name__)
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for tag in _TAGS.findall(text):
            if _ELSEWHERE.search(tag) and 'rel="canonical"' not in tag:
                logger.warning("%s loads from elsewhere: %s", page.name, tag)
        if _CSS.search(text):
            logger.warning("%s has a style that loads from elsewhere", page.name)
    for sheet in Path(app.outdir).rglob("*.css"):
        if _CSS.search(sheet.read_text(encoding="utf-8")):
            logger.warning("%s loads from elsewhere", sheet.name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
