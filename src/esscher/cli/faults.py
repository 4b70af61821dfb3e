"""Errors as exit codes and messages."""

from __future__ import annotations

import json
import sys
import traceback

from cyclopts import CycloptsError

from esscher.errors import ConfigError, DataError, EsscherError, InfeasibleError, MissingExtra

__all__ = ["exit_code", "report_fault"]

_USER_ERRORS = (ConfigError, DataError, InfeasibleError, MissingExtra, CycloptsError)


def exit_code(error: BaseException) -> int:
    """130 for an interrupt, 2 for what the user can put right, 1 for a fault."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, _USER_ERRORS) else 1


def report_fault(error: BaseException, *, as_json: bool, debug: bool) -> int:
    """Say on standard error what went wrong and return the exit code.

    Args:
        error: what a command raised.
        as_json: also print `{"error": {"type": …, "message": …}}` on standard output.
        debug: print the traceback.
    """
    message, path = _message(error), getattr(error, "run_path", None)
    if debug:
        traceback.print_exception(error)
    print(f"esscher: {message}", file=sys.stderr)
    if path is not None and isinstance(error, KeyboardInterrupt):
        print(f"the run is kept; continue it with --resume {path}", file=sys.stderr)
    elif path is not None:
        print(f"the run folder is {path}; see its log.txt", file=sys.stderr)
    if as_json:
        fault = {"type": type(error).__name__, "message": message}
        print(json.dumps({"error": fault}, ensure_ascii=False))
    return exit_code(error)


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, (EsscherError, CycloptsError)):
        return str(error)
    return f"internal error, {type(error).__name__}: {error} (--debug shows where)"
