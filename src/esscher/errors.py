"""Every exception the library raises on purpose.

    EsscherError
    ├── ConfigError (ValueError)          a setting is unknown, out of range or contradicts another
    ├── DataError (ValueError)            input data, prompts or rewards are not what was promised
    │   └── ShapeError (ValueError)       a tensor has the wrong shape or dtype
    ├── NumericsError (ArithmeticError)   NaN or an undefined infinity appeared
    ├── InfeasibleError (RuntimeError)    prior and evidence contradict each other
    │   ├── TargetUnreachableError        no draw from the proposal satisfies the evidence
    │   └── InfeasibleMomentsError        no tilt of the observed draws has the wanted moments
    ├── WorkerError (RuntimeError)        a worker or a command died or cannot be talked to
    │   └── WorkerTimeoutError (TimeoutError)  it did not answer in the time it was given
    ├── MissingExtra (ImportError)        an optional dependency is not installed
    └── CheckpointError (RuntimeError)    a checkpoint is missing, damaged or of another run

A message says what was expected, what came and what to do. All of them can be pickled.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "EsscherError",
    "InfeasibleError",
    "InfeasibleMomentsError",
    "MissingExtra",
    "NumericsError",
    "ShapeError",
    "TargetUnreachableError",
    "WorkerError",
    "WorkerTimeoutError",
]


class EsscherError(Exception):
    """Base of every error raised on purpose."""


class ConfigError(EsscherError, ValueError):
    """A setting is unknown, out of range or contradicts another."""


class DataError(EsscherError, ValueError):
    """Input data, prompts or rewards are not what was promised."""


class ShapeError(DataError):
    """A tensor has the wrong shape or dtype."""


class NumericsError(EsscherError, ArithmeticError):
    """NaN or an undefined infinity appeared where a number is required."""


class InfeasibleError(EsscherError, RuntimeError):
    """Prior and evidence contradict each other."""


class TargetUnreachableError(InfeasibleError):
    """No draw from the proposal satisfies the evidence."""


class InfeasibleMomentsError(InfeasibleError):
    """No tilt of the observed draws has the wanted moments."""


class WorkerError(EsscherError, RuntimeError):
    """A worker process or a command died, or cannot be talked to."""


class WorkerTimeoutError(WorkerError, TimeoutError):
    """A worker process or a command did not answer in the time it was given."""


class MissingExtra(EsscherError, ImportError):  # noqa: N818 - the name users read in a traceback
    """An optional dependency is not installed."""


class CheckpointError(EsscherError, RuntimeError):
    """A checkpoint is missing, damaged or from another configuration."""
