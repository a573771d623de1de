"""Whether tracebacks are shown: of plugins' exceptions, and of what another rank's end has caused."""

import os

TRACEBACKS = "TORCHPLUG_TRACEBACKS"
"""The environment variable that shows the traceback of a plugin's exception, and makes every rank print its own, and
torch its warnings, where a rank has ended."""


def shows_tracebacks() -> bool:
    """Whether the environment asks for them."""
    return os.environ.get(TRACEBACKS, "0") not in ("", "0")
