"""What the wrappers know about the function they wrap: what it is called, and how to call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esscher.core.batch import BatchFunction, evaluate
from esscher.errors import DataError

__all__ = ["identity_of", "values_of"]


def identity_of(function: BatchFunction) -> str:
    """What tells a function from others: its own `identity`, or module:name.

    There is a "<" in it where that is not enough: lambdas, local functions, and objects, whose
    class does not say what they compute.
    """
    own = getattr(function, "identity", None)
    if isinstance(own, str):
        return own
    name = getattr(function, "__qualname__", None)
    if name is None:
        kind = type(function)
        return f"{kind.__module__}:<{kind.__qualname__}>"
    return f"{function.__module__}:{name}"


def values_of(
    function: BatchFunction, items: Sequence[Any], contexts: Sequence[Any] | None, name: str
) -> list[float]:
    """The function's B values, checked as `evaluate` does; what it raises comes as itself.

    Raises:
        DataError: if it returns something else than B numbers.
        NumericsError: if a value is NaN or inf.
    """
    try:
        return [float(v) for v in evaluate(function, items, contexts, name).tolist()]
    except DataError as error:
        # Whoever calls a wrapper is `evaluate` again: once wrapped is enough.
        failure = error.__cause__ or error
    raise failure
