"""The command line: one table of commands, lazily loaded; nothing else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from esscher.cli.app import build_app
from esscher.cli.faults import report_fault
from esscher.cli.table import COMMANDS, Command
from esscher.kit.runs.presence import terminate_as_interrupt

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, table: Mapping[str, Command] = COMMANDS) -> None:
    """Run one command.

    Args:
        argv: the arguments; those of the process by default.
        table: the commands there are.

    Raises:
        SystemExit: with 1 for a fault, 2 for a user's error, 130 for an interrupt.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with terminate_as_interrupt():
            app = build_app(arguments, table)
            code = app(
                arguments, exit_on_error=False, print_error=False, result_action="return_value"
            )
    except (Exception, KeyboardInterrupt) as error:
        as_json, debug = "--json" in arguments, "--debug" in arguments
        raise SystemExit(report_fault(error, as_json=as_json, debug=debug)) from None
    if code:
        raise SystemExit(code)
