"""Paths that no file system can hold."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from torchplug.errors import ConfigurationError
from torchplug.recipe.values import Values

_IMPOSSIBLE = (errno.ENAMETOOLONG, errno.ELOOP)


def refuse_impossible_paths(values: Values) -> None:
    """Refuse settings that name a file and cannot: too long, or with a null character.

    Raises:
        ConfigurationError: naming the flag and what is wrong.
    """
    for name in ("source", "validation", "test"):
        refuse_impossible(f"--data.{name}", values.data[name])
    refuse_impossible("--output", values.others.get("output"))
    callbacks = values.trainer["callbacks"] or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        for parameter in ("dirpath", "filename"):
            refuse_impossible(f"--trainer.callbacks.{parameter}", (callback.get("init_args") or {}).get(parameter))


def refuse_impossible(flag: str, path: Any) -> None:
    """Refuse one path.

    Args:
        flag: how the user gave it.
        path: anything; what is no text or path is left to others.

    Raises:
        ConfigurationError: naming the flag and what is wrong.
    """
    if not isinstance(path, str | Path):
        return
    try:
        os.lstat(path)
    except ValueError as error:
        raise ConfigurationError(f"{flag} {path}: a path cannot hold a null character") from error
    except OSError as error:
        if error.errno in _IMPOSSIBLE:
            shown = path if len(str(path)) <= 80 else f"{str(path)[:80]}… ({len(str(path))} characters)"
            raise ConfigurationError(f"{flag} {shown}: {error.strerror}") from error
