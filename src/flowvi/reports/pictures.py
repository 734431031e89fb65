"""Figures as files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from flowvi.errors import RunError
from flowvi.experiments.run import atomic_write

__all__ = ["save"]


def save(figure: Figure, out: Path) -> Path:
    """Draw first, write then, at the figure's own resolution; the same figure is the same bytes.

    Raises:
        RunError: the folder cannot be made, or the file not be written.
    """
    drawn, kind = io.BytesIO(), out.suffix.lower()[1:]
    with rc_context({"svg.hashsalt": "flowvi", "svg.fonttype": "path"}):
        figure.savefig(drawn, format=kind, dpi="figure", metadata={"Date": None} if kind == "svg" else None)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the folder {out.parent}: {error.strerror}; name another file") from error
    with atomic_write(out) as file:
        file.write(drawn.getvalue())
    return out
