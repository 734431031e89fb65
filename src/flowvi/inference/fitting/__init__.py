"""Fitting a posterior to a user's own log density: `fit`, and the `Fit` it gives."""

from __future__ import annotations

from flowvi.inference.fitting.amortised import AmortisedFit
from flowvi.inference.fitting.effort import EFFORTS, Effort
from flowvi.inference.fitting.entry import fit
from flowvi.inference.fitting.result import Fit

__all__ = ["EFFORTS", "AmortisedFit", "Effort", "Fit", "fit"]
