"""Sections of a report: tables, pictures and the sentences between them, as Markdown and as plain text.

Imports no torch.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowvi.experiments.run import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Chapter", "Part", "Picture", "Section", "Table", "markdown_line", "write_page"]


@dataclass(frozen=True)
class Table:
    """Rows below a head. The first `left` columns are words, set to the left; the others figures, to the right.

    Example:
        >>> table = Table(("flow", "KL"), [("planar", "4.5"), ("NICE", "12.0")])
        >>> print(table.plain())
        flow      KL
        planar   4.5
        NICE    12.0
        >>> print(table.markdown().splitlines()[1])
        | --- | ---: |
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    def markdown(self) -> str:
        """As Markdown."""
        rule = ["---"] * self.left + ["---:"] * (len(self.head) - self.left)
        return "\n".join(markdown_line(row) for row in (self.head, rule, *self.rows))

    def plain(self) -> str:
        """In columns."""
        widths = [max(len(row[column]) for row in (self.head, *self.rows)) for column in range(len(self.head))]
        return "\n".join(self._line(row, widths) for row in (self.head, *self.rows))

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = [
            f"{cell:<{width}}" if column < self.left else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()


@dataclass(frozen=True)
class Picture:
    """A picture, which lies beside the page as `NAME.svg` and `NAME.png` once that is written.

    Example:
        >>> from matplotlib.figure import Figure
        >>> Picture("figure4", "F(x) against K", Figure()).markdown()
        '![F(x) against K](figure4.svg)'
    """

    name: str
    words: str  # what it shows, for those who do not see it
    figure: Figure

    def markdown(self) -> str:
        """As Markdown."""
        return f"![{self.words}]({self.name}.svg)"

    def plain(self) -> str:
        """As a line that names it."""
        return f"({self.name}.svg: {self.words})"


Part = Table | Picture | tuple[str, ...] | str
"""Of a section: a table, a picture, a list (a tuple of lines) or a paragraph."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; and in `findings` what of it belongs on the first page of a report."""

    title: str
    parts: Sequence[Part]
    findings: tuple[str, ...] = ()

    def markdown(self) -> str:
        """As Markdown."""
        return "\n\n".join([f"## {self.title}", *map(_markdown, self.parts)])

    def plain(self) -> str:
        """As plain text."""
        return "\n\n".join([f"{self.title}\n{'=' * len(self.title)}", *map(_plain, self.parts)])


@dataclass(frozen=True)
class Chapter:
    """Sections of one origin, and the command that makes their results."""

    sections: Sequence[Section]
    command: str | None = None


def write_page(sections: Sequence[Section], stem: Path, endings: Sequence[str] = (".md", ".txt")) -> list[Path]:
    """Write sections to `stem` with these endings, and their pictures beside it; returns all files.

    Raises:
        RunError: they cannot be written.
    """
    pictures = [part for section in sections for part in section.parts if isinstance(part, Picture)]
    drawn = [_draw(each, stem.with_name(f"{each.name}.{kind}")) for each in pictures for kind in ("svg", "png")]
    texts = {".md": "\n\n".join(map(Section.markdown, sections)), ".txt": "\n\n\n".join(map(Section.plain, sections))}
    for ending in endings:
        with atomic_write(stem.with_suffix(ending)) as file:
            file.write(f"{texts[ending]}\n".encode())
    return [*drawn, *(stem.with_suffix(ending) for ending in endings)]


def markdown_line(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', '∣') for cell in cells)} |"


def _draw(picture: Picture, path: Path) -> Path:
    from flowvi.reports.pictures import save  # brings matplotlib

    return save(picture.figure, path)


def _markdown(part: Part) -> str:
    if isinstance(part, Table | Picture):
        return part.markdown()
    if isinstance(part, tuple):  # a line that is indented stands below the one before it
        return "\n".join(f"{line[: len(line) - len(line.lstrip())]}- {line.lstrip()}" for line in part)
    return part


def _plain(part: Part) -> str:
    if isinstance(part, Table | Picture):
        return part.plain()
    if isinstance(part, tuple):
        return "\n".join(line.replace("**", "") for line in part)
    return textwrap.fill(part.replace("**", ""), 100)
