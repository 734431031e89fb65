"""The records of a calibration: one for each model and simulated data set."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Generator, Tensor

from flowvi.errors import FlowviError
from flowvi.inference.fitting import Fit, fit
from flowvi.inference.proof.calibration.models import MODELS, Exact, Model, Points
from flowvi.inference.proof.calibration.ranks import DRAWS, ranks

__all__ = ["calibrate"]

Record = dict[str, Any]

_MEAN_DRAWS = 4_000
_DENSITY = "log density"
"""Of θ and data: a quantity of its own, whose rank depends on all parameters together."""


def calibrate(name: str, data_set: int, effort: str) -> Record:
    """Simulate a data set, fit its posterior, and set the fit beside the θ that made the data and the exact answers.

    Seconds are of CPU; a log density that `fit` refuses is a record with its `error`.
    """
    model = MODELS[name]
    theta, data = model.simulate(Generator().manual_seed(data_set))
    exact = model.exact(data)
    record: Record = {"model": name, "data_set": data_set, "effort": effort}
    started = time.process_time()
    try:
        found = fit(exact.log_joint, model.supports, seed=data_set, effort=effort)
    except FlowviError as error:
        return {**record, "seconds": time.process_time() - started, "error": str(error)}
    if found.interrupted:  # Ctrl-C, after which fit gives what it has: not a fit to judge it by
        raise KeyboardInterrupt
    record["seconds"] = time.process_time() - started
    torch.manual_seed(data_set)
    return {**record, "ranks": _ranks(model, exact, theta, found), **_beside(exact, found)}


def _ranks(model: Model, exact: Exact, theta: Points, found: Fit) -> dict[str, int]:
    draws = found.sample(DRAWS)
    of_theta = torch.cat([_columns(theta), exact.log_joint(theta)[:, None]], -1)
    of_draws = torch.cat([_columns(draws), exact.log_joint(draws)[:, None].double()], -1)
    return dict(zip([*_names(model), _DENSITY], ranks(of_theta[0], of_draws), strict=True))


def _beside(exact: Exact, found: Fit) -> Record:
    """What the fit says, and how far its means are from the exact ones, in the errors of 4,000 exact draws."""
    off = (_columns(found.sample(_MEAN_DRAWS)).mean(0) - _row(exact.mean)) / _row(exact.sd) * _MEAN_DRAWS**0.5
    return {
        "mean_off": off.tolist(),
        "elbo": found.elbo,
        "elbo_se": found.elbo_se,
        "log_evidence": found.log_evidence,
        "log_evidence_se": found.log_evidence_se,
        "log_z": exact.log_z,
        "k_hat": found.k_hat,
        "winner": found.winner,
        "verdict": found.verdict.label,
        "reasons": found.verdict.reasons,
    }


def _row(point: Points) -> Tensor:
    return _columns({name: value[None] for name, value in point.items()})[0]


def _columns(points: Points) -> Tensor:
    """(n, entries of all parameters), float64."""
    return torch.cat([part.double().reshape(len(part), -1) for part in points.values()], -1)


def _names(model: Model) -> list[str]:
    names = []
    for name, support in model.supports.items():
        size = support.size
        names += [f"{name}[{i}]" for i in range(size)] if support.shape else [name]
    return names
