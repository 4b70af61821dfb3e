"""Numbers as people read them; the same in logs, tables and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["NOT_AVAILABLE", "estimate_parts", "format_duration", "format_estimate", "format_value"]

NOT_AVAILABLE = "not available"


def estimate_parts(value: object) -> Mapping[str, Any] | None:
    """The parts of an estimate (a mapping with "mean", or an object whose `to_json()` is one)."""
    if hasattr(value, "to_json"):
        value = value.to_json()
    return value if isinstance(value, Mapping) and "mean" in value else None


def format_value(value: object, *, with_n: bool = True) -> str:
    """A value as short text: estimates with their error, floats with four significant digits.

    Args:
        value: an estimate, number, string, sequence or None.
        with_n: name the sample size of an estimate.
    """
    parts = estimate_parts(value)
    if parts is not None:
        text = format_estimate(parts["mean"], parts.get("se"))
        n = None if parts["mean"] is None or not with_n else parts.get("n")
        return text if n is None else f"{text} (n={n:,})"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOT_AVAILABLE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _minus(f"{value:.4g}")
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(item, with_n=with_n) for item in value)
    return str(value)


def format_estimate(mean: float | None, se: float | None) -> str:
    """Mean ± standard error, both to the second significant digit of the error.

    Args:
        mean: None or NaN gives "not available".
        se: standard error in the unit of the mean; None or NaN where it is unknown.
    """
    if mean is None or math.isnan(mean):
        return NOT_AVAILABLE
    if se is None or not math.isfinite(se):
        return f"{_minus(f'{mean:.4g}')} ± ?"
    if se <= 0:
        return f"{_minus(f'{mean:.4g}')} ± 0"
    digits = 1 - math.floor(math.log10(se))
    largest = max(abs(mean), se)
    if -6 < -digits < 4 and largest < 1e6:
        places = max(digits, 0)
        return f"{_minus(f'{mean:.{places}f}')} ± {se:.{places}f}"
    return f"{_minus(f'{mean:.3e}')} ± {se:.1e}"


def format_duration(seconds: float) -> str:
    """Seconds as "42s", "3m05s" or "2h07m"."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _minus(text: str) -> str:
    return text.replace("-", "−", 1) if text.startswith("-") else text
