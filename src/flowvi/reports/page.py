"""Chapters as one page of HTML that needs nothing but itself: inline pictures, no script, light and dark."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from flowvi.errors import RunError
from flowvi.experiments.run import atomic_write
from flowvi.reports.columns import Chapter, Part, Picture, Section, Table

__all__ = ["inline", "rendered", "table_html", "write_html"]

# the figures' own colours, and what they become: these follow the reader's choice of light or dark
_COLOURS = {"#1c1c1c": "--ink", "#000000": "--ink", "#6e6e6e": "--grey", "#dddddd": "--rule", "#ffffff": "--paper"}


def write_html(chapters: Sequence[Chapter], out: Path, *, pictures: Path) -> Path:
    """Write the page; `pictures` is the folder where the sections' pictures were drawn.

    Raises:
        RunError: a picture cannot be read, or the page not be written.
    """
    text = rendered("page.html.jinja", chapters=[_chapter(chapter, pictures) for chapter in chapters])
    with atomic_write(out) as file:
        file.write(text.encode())
    return out


def rendered(template: str, **values: Any) -> str:
    """A template of this room, with these values; what is not `Markup` is escaped."""

    def source(name: str) -> str:
        return (files("flowvi.reports") / name).read_text(encoding="utf-8")

    loader = jinja2.FunctionLoader(source)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template).render(**values)


def _chapter(chapter: Chapter, pictures: Path) -> dict[str, Any]:
    sections = [
        {"title": each.title, "slug": _slug(each.title), "parts": _parts(each, pictures)} for each in chapter.sections
    ]
    return {"sections": sections, "command": chapter.command}


def _parts(section: Section, pictures: Path) -> list[Markup]:
    return [_part(part, pictures) for part in section.parts]


def _part(part: Part, pictures: Path) -> Markup:
    if isinstance(part, Table):
        return table_html(part)
    if isinstance(part, Picture):
        return _picture(part, pictures)
    if isinstance(part, tuple):
        items = (f"<li{' class=under' if line[:1] == ' ' else ''}>{_words(line.strip())}</li>" for line in part)
        return Markup(f"<ul>{''.join(items)}</ul>")
    return Markup(f"<p>{_words(part)}</p>")


def table_html(table: Table) -> Markup:
    """A table in a box of its own, where it may be scrolled."""

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = ["" if place < table.left else ' class="figure"' for place in range(len(cells))]
        end = tag.partition(" ")[0]
        shown = [_words(cell.replace(" = ", "\u00a0=\u00a0")) for cell in cells]  # K = 10 in one piece
        return "".join(f"<{tag}{kind}>{cell}</{end}>" for cell, kind in zip(shown, kinds, strict=True))

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.rows)
    return Markup(
        f'<div class="wide" tabindex="0" role="region" aria-label="a table, which may be scrolled">'
        f"<table><thead><tr>{row(table.head, 'th scope=col')}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _picture(picture: Picture, folder: Path) -> Markup:
    path = folder / f"{picture.name}.svg"
    try:
        svg = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    caption = _words(picture.words)
    return Markup(
        f'<figure><div class="wide" tabindex="0" role="region" aria-label="a figure, which may be scrolled">'
        f"{inline(svg, picture.name, picture.words)}</div>"
        f"<figcaption>{caption}.</figcaption></figure>"
    )


def inline(svg: str, name: str, words: str) -> str:
    r"""A picture's SVG for the middle of a page: its colours the page's, its ids its own, its size that of its box.

    Example:
        >>> text = '<?xml version="1.0"?><svg height="9pt" viewBox="0 0 9 9"><g id="a" style="fill: #1c1c1c"/></svg>'
        >>> print(inline(text, "x", "a thing").replace("><", ">\n<"))
        <svg role="img" aria-label="a thing" viewBox="0 0 9 9" style="min-width: 9pt">
        <g id="x-a" style="fill: var(--ink)"/>
        </svg>
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    opening, _, rest = body.partition(">")
    opening = re.sub(r'\s(?:width|height)="[^"]*"', "", opening)
    least = re.sub(r'.*viewBox="\S+ \S+ (\d+).*', r"\1", opening, flags=re.DOTALL)  # its width in points
    opening += f' style="min-width: {least}pt"'
    opening = opening.replace("<svg", f'<svg role="img" aria-label="{html.escape(words)}"', 1)
    rest = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', rest)
    rest = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', rest)
    rest = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", rest)
    for colour, variable in _COLOURS.items():
        rest = re.sub(rf"(fill|stroke): {colour}\b", rf"\1: var({variable})", rest)
    return f"{opening}>{rest}".strip()


def _words(text: str) -> Markup:
    """A line of Markdown: code, bold and emphasis; the rest escaped."""
    shown = html.escape(text, quote=False)
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", shown)
    shown = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", shown)
    return Markup(re.sub(r"(?<!\w)\*([^*\s][^*]*)\*", r"<em>\1</em>", shown))


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
