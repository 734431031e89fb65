"""The typed errors of flowvi. Each message says what was wrong, what is allowed and what to do, in one line."""

from __future__ import annotations

__all__ = [
    "BusyRun",
    "CheckpointError",
    "ConfigError",
    "ContextError",
    "DataError",
    "DensityError",
    "FlowviError",
    "InterruptedRun",
    "NonFiniteError",
    "RunError",
    "ShapeError",
]


class FlowviError(Exception):
    """The base of every error that flowvi raises on purpose."""


class ConfigError(FlowviError, ValueError):
    """A preset, key or value of a config that does not exist or is not allowed."""


class DataError(FlowviError, ValueError):
    """Data that cannot be read, or whose shape, range or content is not allowed."""


class DensityError(FlowviError, ValueError):
    """A user's log density that cannot be fitted: its shape, dtype, gradient or values; says what to change."""


class ShapeError(FlowviError, ValueError):
    """A tensor, or a number of features, of a size that cannot be used; names the shapes found and expected."""


class ContextError(ShapeError):
    """A context that is missing, unexpected or of the wrong width."""


class RunError(FlowviError):
    """A run folder that cannot be used: locked, unwritable, absent, or made by another config."""


class BusyRun(RunError):
    """A run folder that another process holds."""


class CheckpointError(RunError):
    """A checkpoint or weights file that is missing, damaged, or of another model."""


class NonFiniteError(FlowviError, ArithmeticError):
    """A loss or gradient that is not finite; the weights were left untouched."""


class InterruptedRun(FlowviError):
    """A run that was asked to stop (Ctrl-C, SIGTERM) and has saved a checkpoint."""
