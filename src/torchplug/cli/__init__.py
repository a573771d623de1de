"""The command `torchplug`: components and plugins at the command line.

Each module of this package is a group of subcommands: `add_to` declares them, and a function of the parsed options
returns the text to print, or `Printed` with another exit status than 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from torchplug import __version__, interruption
from torchplug.cli import check, components, doctor, new, plugins
from torchplug.cli.output import Printed
from torchplug.errors import TorchplugError, TrainingError
from torchplug.terminal import lost_output, one_line, protect_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the command's name; by default the process's own.

    Returns:
        The exit status: 0; that of a subcommand, such as 1 if a check failed; 2 if the input was refused; 3 if the
        output could not be written (0 if its reader closed the pipe); 130 after Ctrl-C.
    """
    with interruption.handled("torchplug", lambda: True):
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            return interruption.INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    protect_streams()
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], str | Printed] = options.command
    try:
        printed = command(options)
        text, status = printed if isinstance(printed, Printed) else (printed, 0)
        print(text, flush=True)
    except TorchplugError as error:
        return _fail(str(error), error.exit_status)
    if (trouble := lost_output()) is not None:
        return _fail(f"the output cannot be written: {trouble.strerror}", TrainingError.exit_status)
    return status


def _fail(message: str, status: int) -> int:
    print(f"torchplug: error: {one_line(message)}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"torchplug: error: {one_line(message)} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="torchplug", description="Components by name: which there are, and where they come from."
    )
    parser.add_argument("--version", action="version", version=f"torchplug {__version__}")
    commands = parser.add_subparsers(required=True)
    components.add_to(commands)
    plugins.add_to(commands)
    doctor.add_to(commands)
    check.add_to(commands)
    new.add_to(commands)
    commands.metavar = " | ".join(commands.choices)
    return parser
