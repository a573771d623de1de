"""A process that helps with a search: `python -m torchplug.workflow.search.helper`, with the search on stdin."""

from __future__ import annotations

import pickle
import sys
from typing import Any

from torchplug import interruption
from torchplug.data.tabular import TabularData
from torchplug.interruption import INTERRUPTED
from torchplug.workflow.search.helpers import end_with_parent
from torchplug.workflow.search.planning import Plan
from torchplug.workflow.search.searching import Searching
from torchplug.workflow.unfinished import Unfinished


def main() -> int:
    """Train trials until none waits; returns the exit status."""
    settings: dict[str, Any] = pickle.load(sys.stdin.buffer)
    end_with_parent()
    plan = Plan(**{**settings, "data": TabularData(**settings["data"])})
    with interruption.handled("search", lambda: False):
        try:
            Searching(plan).help()
        except (Unfinished, KeyboardInterrupt):
            return 0 if interruption.requested() else INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
