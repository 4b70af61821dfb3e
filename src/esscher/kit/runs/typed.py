"""Plain values checked against type annotations, and frozen dataclasses built from them."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from esscher.errors import ConfigError

__all__ = ["check_mapping", "from_mapping", "nearest"]

T = TypeVar("T")
Nested: TypeAlias = Callable[[type, Mapping[str, object], str], object]


def nearest(word: str, choices: Sequence[str]) -> str:
    """The hint " (did you mean …?)" for the closest choice, or "" where none is close."""
    found = difflib.get_close_matches(word.replace("-", "_"), choices, n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""


def from_mapping(cls: type[T], mapping: Mapping[str, object]) -> T:
    """Build a dataclass from nested mappings, such as a parsed TOML file.

    Args:
        cls: the dataclass; missing keys take its defaults.
        mapping: field names to values.

    Raises:
        ConfigError: if a key is unknown (the nearest is named), missing without a default, or its
            value has the wrong type.
    """
    return _build(cls, mapping, "")


def check_mapping(cls: type, mapping: Mapping[str, object]) -> None:
    """Check the keys and the types of the values that are there; required ones may be missing.

    Raises:
        ConfigError: as `from_mapping` does, except for missing settings.
    """
    _values(cls, mapping, "", _check)


def _build(cls: type[T], mapping: Mapping[str, object], where: str) -> T:
    values = _values(cls, mapping, where, _build)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.init and _required(field) and field.name not in values:
            raise ConfigError(f"{cls.__name__} needs a value for {where + field.name!r}")
    return cls(**values)


def _check(cls: type[T], mapping: Mapping[str, object], where: str) -> None:
    _values(cls, mapping, where, _check)


def _values(
    cls: type, mapping: Mapping[str, object], where: str, nested: Nested
) -> dict[str, object]:
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in mapping:
        if key not in names:
            hint = nearest(key, names)
            known = ", ".join(names)
            raise ConfigError(f"unknown setting {where + key!r}{hint}; {cls.__name__} has: {known}")
    hints = get_type_hints(cls)
    return {key: _typed(hints[key], value, where + key, nested) for key, value in mapping.items()}


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _typed(hint: object, value: object, where: str, nested: Nested) -> object:
    origin, args = get_origin(hint), get_args(hint)
    result = value
    if origin in (Union, types.UnionType):
        result = _one_of(args, value, where, nested)
    elif origin is Literal:
        _check_choice(args, value, where)
    elif origin in (tuple, list, Sequence):
        result = _sequence(origin, args, value, where, nested)
    elif origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _mismatch("a table", value, where)
        result = {k: _typed(args[1], v, f"{where}.{k}", nested) for k, v in value.items()}
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, (hint, Mapping)):
            raise _mismatch(f"a table of {hint.__name__} settings", value, where)
        if isinstance(value, Mapping):
            result = nested(hint, value, f"{where}.")
    elif hint is not Any:
        result = _scalar(hint, value, where)
    return result


def _one_of(args: tuple[object, ...], value: object, where: str, nested: Nested) -> object:
    if value is None and type(None) in args:
        return None
    errors = []
    for option in (arg for arg in args if arg is not type(None)):
        try:
            return _typed(option, value, where, nested)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _check_choice(choices: tuple[object, ...], value: object, where: str) -> None:
    if value not in choices:
        hint = nearest(str(value), [str(choice) for choice in choices])
        listed = ", ".join(map(repr, choices))
        raise ConfigError(f"{where} must be one of {listed}, got {value!r}{hint}")


def _sequence(
    origin: object, args: tuple[object, ...], value: object, where: str, nested: Nested
) -> object:
    if not isinstance(value, (list, tuple)):
        raise _mismatch("a list", value, where)
    if origin is not tuple or (len(args) == 2 and args[1] is Ellipsis):
        args = (args[0],) * len(value)
    if len(value) != len(args):
        raise ConfigError(f"{where} must have {len(args)} items, got {len(value)}: {value!r}")
    items = [
        _typed(hint, item, f"{where}[{i}]", nested)
        for i, (hint, item) in enumerate(zip(args, value, strict=True))
    ]
    return items if origin is list else tuple(items)


def _scalar(hint: object, value: object, where: str) -> object:
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and number:
        return float(value)  # type: ignore[arg-type]
    if isinstance(hint, type) and isinstance(value, hint) and (hint is not int or number):
        return value
    raise _mismatch(f"of type {getattr(hint, '__name__', hint)}", value, where)


def _mismatch(expected: str, value: object, where: str) -> ConfigError:
    return ConfigError(f"{where} must be {expected}, got {value!r} ({type(value).__name__})")
