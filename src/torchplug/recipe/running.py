"""A command that has been parsed, carried out: seeded, quiet, and with the process group left in order."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from torchplug import interruption
from torchplug.data.tabular import TabularData
from torchplug.fitting import environment
from torchplug.fitting.ranks import first_rank
from torchplug.interruption import INTERRUPTED, Interrupted
from torchplug.module import ComponentModule
from torchplug.recipe.output import say_notes
from torchplug.recipe.subcommands import SUBCOMMANDS
from torchplug.registry import named_failures
from torchplug.terminal import PrintableFormatter, print_warnings_in_one_line
from torchplug.tracking.ensemble import Ensemble

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def run(command: Command, module: ComponentModule | Ensemble, data: TabularData) -> int:
    """Do what the command asks for, and leave the process group in order.

    Raises:
        TorchplugError: for input that is refused, or training that had to stop.
    """
    quieten()
    environment.seed_generators(command.settings.seed_everything, "--seed_everything")
    if command.origin is not None and command.origin.note is not None:
        say_notes([command.origin.note])
    status = None
    try:
        with environment.typed_errors(), named_failures(module.components):
            status = SUBCOMMANDS[command.subcommand].carry_out(command, module, data)
    except Interrupted:
        if first_rank():
            print(interruption.message("interrupted"), file=sys.stderr, flush=True)
        status = INTERRUPTED
    finally:
        environment.leave_process_group(together=status in (0, INTERRUPTED))
    return status


def quieten() -> None:
    """Silence Lightning's messages, and print torchplug's own as notes."""
    logging.raiseExceptions = False  # a log file on a full disk, such as W&B's, is not worth a traceback
    environment.quieten()
    if first_rank():  # what took long, such as compiling
        own, handler = logging.getLogger("torchplug"), logging.StreamHandler(sys.stdout)
        handler.setFormatter(PrintableFormatter("note: %(message)s"))
        own.setLevel(logging.INFO)
        own.handlers = [handler]
    print_warnings_in_one_line()
