"""A command function as cyclopts sees it: its own parameters and the standard options."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from cyclopts import Group, Parameter
from cyclopts.config import Dict

from esscher.cli.render import render
from esscher.kit.runs.config import load_toml
from esscher.kit.runs.output import Output
from esscher.kit.runs.typed import check_mapping

if TYPE_CHECKING:
    from cyclopts import App, ArgumentCollection

__all__ = ["bind", "settings_from_file"]

_COMMON = Group("Every command", sort_key=100)


def _flag(name: str, annotation: object, default: object, text: str, *alias: str) -> Any:
    how = Parameter(name=(f"--{name}", *alias), negative="", group=_COMMON, help=text)
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(
        f"common_{name}", kind, default=default, annotation=Annotated[annotation, how]
    )


_FLAGS = (
    _flag("config", Path | None, None, "Settings from a TOML file; flags win."),
    _flag("json", bool, False, "Print one JSON object and nothing else."),
    _flag("quiet", bool, False, "No progress, no notes.", "-q"),
    _flag("verbose", bool, False, "More notes.", "-v"),
    _flag("debug", bool, False, "Show the traceback of an error."),
)


def bind(function: Callable[..., Any]) -> Callable[..., int]:
    """Wrap a command function so that it takes the standard options and prints its result.

    Args:
        function: as described in `esscher.cli.table`.

    Returns:
        A function for `cyclopts.App.command`; it returns the exit code.
    """
    hints = get_type_hints(function, include_extras=True)
    given = list(inspect.signature(function).parameters.values())
    outputs = [p.name for p in given if hints[p.name] is Output]
    own = [_parameter(p, hints[p.name]) for p in given if p.name not in outputs]
    own.sort(key=lambda parameter: parameter.kind)
    defaults = {p.name: p.default for p in own if _is_config(hints[p.name]) and _has_default(p)}
    own += _FLAGS if any(map(_is_config, hints.values())) else _FLAGS[1:]

    @functools.wraps(function)
    def command(*args: object, **kwargs: object) -> int:
        common = {flag.name: kwargs.pop(flag.name, flag.default) for flag in _FLAGS}
        as_json = bool(common["common_json"])
        output = Output(as_json, bool(common["common_quiet"]), bool(common["common_verbose"]))
        kwargs = defaults | kwargs | dict.fromkeys(outputs, output)
        # Whatever a library prints must not spoil the one JSON object on standard output.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            result = function(*args, **kwargs)
        render(result, as_json=as_json)
        return 1 if result is not None and result.get("ok") is False else 0

    command.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in own}
    return command


def settings_from_file(
    function: Callable[..., Any],
) -> Callable[[App, tuple[str, ...], ArgumentCollection], None]:
    """The cyclopts hook that fills a command's dataclass from `--config FILE` or `--resume RUN`."""
    hints = get_type_hints(function)
    configs = [hint for hint in hints.values() if _is_config(hint)]

    def fill(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        del commands
        path = _given(arguments, "--config")
        if path is None and (run := _given(arguments, "--resume")) is not None:
            path = run / "config.toml"
        if path is None:
            return
        mapping = load_toml(path)
        for config in configs:
            check_mapping(config, mapping)
        Dict(mapping, source=str(path))(app, (), arguments)

    return fill


def _given(arguments: ArgumentCollection, flag: str) -> Path | None:
    values = [token.value for each in arguments if flag in each.names for token in each.tokens]
    return Path(values[-1]) if values else None


def _is_config(hint: object) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint is not Output


def _has_default(parameter: inspect.Parameter) -> bool:
    return parameter.default is not inspect.Parameter.empty


def _parameter(parameter: inspect.Parameter, hint: Any) -> inspect.Parameter:
    if not _is_config(hint):
        return parameter.replace(annotation=hint)
    optional = all(
        field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        for field in dataclasses.fields(hint)
        if field.init
    )
    return parameter.replace(
        annotation=Annotated[hint, Parameter(name="*")],
        kind=inspect.Parameter.KEYWORD_ONLY,
        default=hint() if optional else inspect.Parameter.empty,
    )
