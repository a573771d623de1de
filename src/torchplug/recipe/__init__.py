"""What recipes share: a command line, and the way from its settings to a finished run."""

from torchplug.recipe.collector import paused_collector
from torchplug.recipe.environment import without_malformed

with paused_collector(), without_malformed():
    from torchplug.recipe.command import Command, parse, reports_errors
    from torchplug.recipe.parser import Settings

__all__ = ["Command", "Settings", "parse", "reports_errors"]
