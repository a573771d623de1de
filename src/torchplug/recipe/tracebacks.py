"""Whether tracebacks are shown of what another rank's end has caused."""

import os

TRACEBACKS = "TORCHPLUG_TRACEBACKS"
"""The environment variable that makes every rank print its traceback, and torch its warnings, where one has ended."""


def shows_tracebacks() -> bool:
    """Whether the environment asks for them."""
    return os.environ.get(TRACEBACKS, "0") not in ("", "0")
