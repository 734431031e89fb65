"""The largest of each group of units, compiled: forth with the winner's number, back to the winner alone."""

from __future__ import annotations

from flowvi.kernels.cpu.team import array, kernel, share

__all__ = ["gradient", "run"]


@kernel
def run(data):
    """Units (rows, window, outputs) plus a bias -> the largest and which, the first of equals, (rows, 1, outputs)."""
    first, last, _, _, _, _ = share(data)
    units, bias, largest, winner = array(data, 0), array(data, 1), array(data, 2), array(data, 3)
    _, window, outputs = units.shape
    for row in range(first, last):
        most, which = largest[row, 0], winner[row, 0]
        for o in range(outputs):
            most[o] = units[row, 0, o] + bias[0, 0, o]
            which[o] = 0
        for k in range(1, window):
            for o in range(outputs):
                unit = units[row, k, o] + bias[0, k, o]
                wins = unit > most[o] or unit != unit  # NaN stays NaN
                most[o] = unit if wins else most[o]
                which[o] = k if wins else which[o]


@kernel
def gradient(data):
    """The gradient by the units, (rows, window, outputs)."""
    first, last, _, _, _, _ = share(data)
    grad, winner, by_units = array(data, 0), array(data, 1), array(data, 2)
    _, window, outputs = by_units.shape
    for row in range(first, last):
        for k in range(window):
            for o in range(outputs):
                by_units[row, k, o] = grad[row, 0, o] if winner[row, 0, o] == k else 0
