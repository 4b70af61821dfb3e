"""The cyclopts application made from the table of commands."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cyclopts import App

from esscher.__about__ import __version__
from esscher.cli.bind import bind, settings_from_file
from esscher.cli.table import GROUPS, Command

__all__ = ["build_app", "command_of"]

_HELP = "Fine-tuning and inference as Bayesian updating: prior × evidence → target."


def command_of(argv: Sequence[str], table: Mapping[str, Command]) -> str | None:
    """The command of the table that the arguments begin with."""
    for length in range(len(argv), 0, -1):
        if " ".join(argv[:length]) in table:
            return " ".join(argv[:length])
    return None


def build_app(argv: Sequence[str], table: Mapping[str, Command]) -> App:
    """An application with every command of the table, of which only the one called is loaded.

    Args:
        argv: the arguments.
        table: command to its target and help.
    """
    app = App(
        name="esscher",
        help=_HELP,
        version=__version__,
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,
    )
    groups: dict[str, App] = {}
    wanted = command_of(argv, table)
    for path, command in table.items():
        group, _, name = path.rpartition(" ")
        if group and group not in groups:
            groups[group] = App(name=group, help=GROUPS.get(group), version_flags=[])
            app.command(groups[group])
        parent = groups[group] if group else app
        if path == wanted:
            function = _load(command.target)
            hook = settings_from_file(function)
            parent.command(bind(function), name=name, config=hook, version_flags=[])
        else:
            parent.command(_not_loaded, name=name, help=command.help)
    return app


def _load(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _not_loaded() -> None:
    raise AssertionError("only the command that is called is loaded")
