"""One posterior for many data sets: q(z | c), whose parameters a network makes of each data set's context c."""

from __future__ import annotations

from flowvi.inference.fitting.amortised.result import AmortisedFit

__all__ = ["AmortisedFit"]
