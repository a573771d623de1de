"""A command that has been parsed, carried out: seeded, quiet, and with the process group left in order."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TYPE_CHECKING

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.interruption import INTERRUPTED, Interrupted
from torchplug.module import ComponentModule
from torchplug.recipe.evaluating import test, validate
from torchplug.recipe.fitting import fit
from torchplug.recipe.predicting import predict
from torchplug.recipe.ranks import first_rank, say_notes
from torchplug.terminal import PrintableFormatter, print_warnings_in_one_line

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


_COMMANDS = {"fit": fit, "validate": validate, "test": test, "predict": predict}

_LARGEST_SEED = 2**32 - 1
"""NumPy's."""


def run(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Do what the command asks for, and leave the process group in order.

    Raises:
        TorchplugError: for input that is refused, or training that had to stop.
    """
    quieten()
    _seed(command.settings.seed_everything)
    if command.origin is not None and command.origin.note is not None:
        say_notes([command.origin.note])
    status = None
    try:
        status = _COMMANDS[command.subcommand](command, module, data)
    except Interrupted:
        status = INTERRUPTED
    except MisconfigurationException as error:
        raise ConfigurationError(" ".join(str(error).split())) from error
    finally:
        _leave_process_group(together=status in (0, INTERRUPTED))
    return status


def _seed(seed: int) -> None:
    if not 0 <= seed <= _LARGEST_SEED:
        raise ConfigurationError(f"--seed_everything must be from 0 to {_LARGEST_SEED}, not {seed}")
    lightning.seed_everything(seed, workers=True, verbose=False)


def _leave_process_group(together: bool) -> None:
    """End the process group: Lightning does it for NCCL only, and gloo's threads may abort the process at exit."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        if together:  # after a failure the other ranks may be gone
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def quieten() -> None:
    """Silence what Lightning says that is no news here, or no fault of the user's."""
    logging.raiseExceptions = False  # a log file on a full disk, such as W&B's, is not worth a traceback
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if first_rank():  # what took long, such as compiling
        own, handler = logging.getLogger("torchplug"), logging.StreamHandler(sys.stdout)
        handler.setFormatter(PrintableFormatter("note: %(message)s"))
        own.setLevel(logging.INFO)
        own.handlers = [handler]
    print_warnings_in_one_line()
    for message in (
        ".*LeafSpec.*is deprecated",  # Lightning's own use of torch
        "The number of training batches",  # rows are written by the step count, across epochs
        "Checkpoint directory .* exists and is not empty",  # a resumed run goes on in its directory
    ):
        warnings.filterwarnings("ignore", message)
