"""Calling what users bring - a function of a whole batch - and checking what comes back."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from esscher.errors import ConfigError, DataError, NumericsError

__all__ = [
    "BatchFunction",
    "OnError",
    "arguments_for",
    "checked",
    "evaluate",
    "shown",
    "unique_names",
]

BatchFunction = Callable[..., Any]
"""`f(items)` or `f(items, contexts)`: one number per item, as a sequence, array or tensor [B]."""

OnError = Literal["raise", "worst"]
"""What to do with an item for which the function raises: stop with an error, or rule it out."""


def shown(item: object, width: int = 80) -> str:
    """repr(item), cut to width characters."""
    text = repr(item)
    return text if len(text) <= width else text[: width - 3] + "..."


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names with repeats numbered: reward, reward_2, reward_3."""
    seen: list[str] = []
    for name in names:
        candidate, k = name, 2
        while candidate in seen:
            candidate, k = f"{name}_{k}", k + 1
        seen.append(candidate)
    return tuple(seen)


def evaluate(
    function: BatchFunction,
    items: Sequence[Any],
    contexts: Sequence[Any] | None,
    owner: str,
    *,
    on_error: OnError = "raise",
    worst: float = -math.inf,
) -> Tensor:
    """Call function on the batch and return its values, [B] float64, each < inf and not NaN.

    A function with two required positional parameters, or one called `contexts`, is given the
    contexts as well.

    Args:
        function: what the user brought.
        items: B samples as the law shows them.
        contexts: B contexts, or None.
        owner: who asks, for messages: "Reward 'helpful'".
        on_error: "raise" stops where the function raises; "worst" calls it again item by item,
            gives those it fails on the worst value, and warns.
        worst: the value that rules an item out.

    Raises:
        DataError: if the function raises (on every item, with "worst"), or returns something else
            than B numbers.
        NumericsError: if a value is NaN or +inf.
    """
    try:
        raw = _call(function, items, contexts)
    except (ConfigError, NumericsError):
        raise  # functions that check for themselves: no item is at fault, or NaN is never ruled out
    except Exception as error:
        if on_error == "worst":
            return _item_by_item(function, items, contexts, owner, worst)
        raise DataError(
            f"{owner}: the function raised {type(error).__name__}: {error} "
            f"on a batch of {len(items)} items; it must return one number for every item, or "
            "on_error='worst' rules the items out on which it fails"
        ) from error
    return checked(_vector(raw, len(items), owner), items, owner)


def arguments_for(
    function: BatchFunction, items: Sequence[Any], contexts: Sequence[Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the named arguments with which `evaluate` calls a function."""
    parameters = _parameters(function)
    if any(p.name == "contexts" for p in parameters):
        return (items,), {"contexts": contexts}
    required = [
        p
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return ((items, contexts) if len(required) >= 2 else (items,)), {}


def _item_by_item(
    function: BatchFunction,
    items: Sequence[Any],
    contexts: Sequence[Any] | None,
    owner: str,
    worst: float,
) -> Tensor:
    values = torch.full((len(items),), worst, dtype=torch.float64)
    failed: list[tuple[int, Exception]] = []
    for i, item in enumerate(items):
        try:
            raw = _call(function, [item], None if contexts is None else [contexts[i]])
        except Exception as error:
            failed.append((i, error))
        else:
            values[i] = checked(_vector(raw, 1, owner), [item], owner)[0]
    if not failed:
        return values
    i, first = failed[0]
    what = f"sample {i} ({shown(items[i])}): {type(first).__name__}: {first}"
    if len(failed) == len(items):
        raise DataError(f"{owner}: the function raised on each of {len(items)} items, {what}")
    warnings.warn(
        f"{owner}: the function raised on {len(failed)} of {len(items)} items, which are ruled "
        f"out; the first is {what}",
        stacklevel=2,
    )
    return values


def checked(values: Tensor, items: Sequence[Any], owner: str) -> Tensor:
    """The values unchanged, once they are known to be [B], not NaN and below +inf.

    Raises:
        DataError: if the shape is not [B].
        NumericsError: naming the first offending sample.
    """
    if tuple(values.shape) != (len(items),):
        raise DataError(
            f"{owner}: expected {len(items)} numbers, one per item, got "
            f"{len(values) if values.ndim else 'one'} of shape {tuple(values.shape)}; "
            "the function receives the whole batch and returns a flat sequence"
        )
    bad = values.isnan() | (values == torch.inf)
    if bool(bad.any()):
        i = int(bad.nonzero()[0])
        raise NumericsError(
            f"{owner}: sample {i} of {len(items)} got {float(values[i])}, expected a number "
            f"below inf; the item is {shown(items[i])}; return a finite number there, "
            "or -inf to rule the item out"
        )
    return values


def _call(function: BatchFunction, items: Sequence[Any], contexts: Sequence[Any] | None) -> object:
    positional, named = arguments_for(function, items, contexts)
    return function(*positional, **named)


def _parameters(function: BatchFunction) -> list[inspect.Parameter]:
    # A module's __call__ is (*args, **kwargs); its forward says what it takes.
    target = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return []


def _vector(raw: object, n: int, owner: str) -> Tensor:
    if isinstance(raw, Tensor):
        return raw.detach().to("cpu", torch.float64)
    try:
        array = np.asarray(raw)
    except ValueError:  # ragged rows
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{owner}: expected {n} numbers, one per item, got {type(raw).__name__} "
            f"{shown(raw)}; the function receives the whole batch and returns a flat sequence"
        )
    return torch.from_numpy(array.astype(np.float64))
