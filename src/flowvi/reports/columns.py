"""One table as Markdown and as plain text. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowvi.reports.comparison import markdown_line

__all__ = ["Table"]


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
