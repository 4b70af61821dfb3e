"""Frozen dataclasses as TOML."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esscher.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["config_hash", "load_toml", "to_mapping", "to_toml"]


def to_mapping(config: DataclassInstance) -> dict[str, Any]:
    """A dataclass as nested dicts of TOML types; None is left out, paths become strings.

    Raises:
        ConfigError: if it is no dataclass or a value has no TOML form, NaN included.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ConfigError(f"a configuration is an instance of a dataclass, got {config!r}")
    return _table(_fields(config), "")


def _fields(config: DataclassInstance) -> dict[str, object]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _table(items: Mapping[Any, object], where: str) -> dict[str, Any]:
    pairs = ((str(key), value) for key, value in items.items() if value is not None)
    return {key: _plain(value, f"{where}{key}") for key, value in pairs}


def _plain(value: object, where: str) -> object:
    if isinstance(value, float) and math.isnan(value):
        raise ConfigError(f"{where} is NaN; give a number or leave it out")
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _table(_fields(value), f"{where}.")
    if isinstance(value, Mapping):
        return _table(value, f"{where}.")
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise ConfigError(
        f"{where} is a {type(value).__name__}; a configuration holds bool, int, float, str, Path, "
        "tuples, mappings and dataclasses of these"
    )


def to_toml(config: DataclassInstance) -> str:
    """A dataclass as TOML: its own values first, then one table per nested dataclass.

    Raises:
        ConfigError: if a value has no TOML form.
    """
    lines: list[str] = []
    _write_table(to_mapping(config), (), lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: Mapping[str, object], path: tuple[str, ...], lines: list[str]) -> None:
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    if path:
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items() if key not in inner]
    for key, value in inner.items():
        _write_table(value, (*path, key), lines)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    return repr(value)


def config_hash(config: DataclassInstance) -> str:
    """Eight hex digits that change whenever a value of the configuration changes."""
    text = json.dumps(to_mapping(config), sort_keys=True)
    return hashlib.sha256(f"{type(config).__name__}{text}".encode()).hexdigest()[:8]


def load_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ConfigError: if the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
