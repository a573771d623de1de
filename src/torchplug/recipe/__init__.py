"""What recipes share: a command line, and the way from its settings to a finished run."""

import os

from torchplug.interruption import is_program
from torchplug.recipe.collector import paused_collector
from torchplug.recipe.environment import without_malformed
from torchplug.tracebacks import shows_tracebacks

if is_program() and not shows_tracebacks():
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # which torch reads when it is imported

with paused_collector(), without_malformed():
    from torchplug.recipe.adaptation import TableSummary
    from torchplug.recipe.command import Command, parse
    from torchplug.recipe.reporting import reports_errors
    from torchplug.recipe.settings import Settings

__all__ = ["Command", "Settings", "TableSummary", "parse", "reports_errors"]
