"""The overfit ladder: `torchplug.ladder`."""

from torchplug.workflow.ladder.api import ladder
from torchplug.workflow.ladder.result import Ladder, Rung

__all__ = ["Ladder", "Rung", "ladder"]
