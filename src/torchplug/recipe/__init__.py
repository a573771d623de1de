"""What recipes share: a command line, and the way from its settings to a finished run."""

from torchplug.recipe.collector import paused_collector

with paused_collector():
    from torchplug.recipe.command import Command, parse
    from torchplug.recipe.parser import Settings
    from torchplug.recipe.reporting import reports_errors

__all__ = ["Command", "Settings", "parse", "reports_errors"]
