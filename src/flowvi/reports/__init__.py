"""The reports room: tables and figures, made from results and run folders; it trains nothing.

`draw` is that of `flowvi.reports.samples`. The tables import no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowvi.reports.comparison import results_markdown
    from flowvi.reports.published import PUBLISHED, Published
    from flowvi.reports.samples import draw
    from flowvi.reports.tables import result_table

__all__ = ["PUBLISHED", "Published", "draw", "result_table", "results_markdown"]

_HOMES = {
    "PUBLISHED": "published",
    "Published": "published",
    "draw": "samples",
    "result_table": "tables",
    "results_markdown": "comparison",
}

if not TYPE_CHECKING:  # a type checker that saw it would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
