"""A lock file: which plugins may train, with versions and hashes, so that any difference is refused.

    ["torchplug-robust"]
    version = "0.1.0"
    hash = "sha256:…"

It holds every plugin that may load, and torchplug itself. One that is installed in place has `editable = true`, and the
hash is that of its code as it was. One whose files are not recorded has no hash, which a comment says. Comparing reads
metadata and files, and imports no plugin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchplug.errors import ConfigurationError, PluginError
from torchplug.registry.installed import Installation, installations
from torchplug.registry.permissions import BLOCK_LIST, BUILTIN, Permissions

_HEAD = "# Plugins that may load, written by `torchplug lock`; --plugins_lock FILE refuses any difference."
_UNPINNED = "# Its files are not recorded: only the version is compared."


def lock() -> str:
    """Return a lock file's text for what is installed and may load.

    Raises:
        PluginError: if files of a plugin differ from those that were installed.
    """
    lines = [_HEAD]
    for name, installation in _permitted().items():
        if installation.altered:
            raise PluginError(altered(installation))
        lines += ["", f"[{json.dumps(name)}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in _entry(installation).items()]
        lines += [_UNPINNED] if installation.hash is None else []
    return "\n".join(lines)


def refuse_difference(file: Path) -> None:
    """Refuse plugins that are not those of a lock file.

    Raises:
        ConfigurationError: if the file cannot be read or is malformed.
        PluginError: naming the first plugin that differs, how, and the remedy.
    """
    locked, there = _read(file), _permitted()
    differences = [_difference(name, locked.get(name), there.get(name), file) for name in {**locked, **there}]
    found = [difference for difference in differences if difference]
    if found:
        more = f" ({len(found) - 1} more differ)" if len(found) > 1 else ""
        raise PluginError(f"{found[0]}{more}")


def altered(installation: Installation) -> str:
    """Return what to say of a plugin with files that differ from those that were installed."""
    first, *others = installation.altered
    more = f" and {len(others)} more" if others else ""
    return (
        f"{installation.name} {installation.version} is not as it was installed ({first}{more} changed): "
        f"{_reinstall(installation)}"
    )


def _permitted() -> dict[str, Installation]:
    permissions = Permissions.current()
    return {name: one for name, one in installations().items() if permissions.refusal(name) is None}


def _entry(installation: Installation) -> dict[str, Any]:
    digest = {} if installation.hash is None else {"hash": installation.hash}
    return {"version": installation.version, **digest, **({"editable": True} if installation.source else {})}


def _difference(name: str, locked: Mapping[str, Any] | None, there: Installation | None, file: Path) -> str | None:
    """How a plugin differs from the lock file, with the remedy; None if it does not."""
    if there is None:
        assert locked is not None
        return f"{name} {locked['version']} of {file} is not installed or may not load: {_install(name, locked)}"
    here = f"{name} {there.version}"
    if locked is None:
        return f"{here} is not in {file}: leave it out by {BLOCK_LIST}={name}, or write the file again"
    if there.version != locked["version"]:
        return f"{here} is installed, and {file} has {locked['version']}: {_install(name, locked)}"
    if there.altered:
        return altered(there)
    if _entry(there) == locked:
        return None
    if there.source is not None:
        return (
            f"the code of {here} in {there.source} is not that of {file}: restore it, or write the file again by "
            "`torchplug lock`"
        )
    if there.hash is None:
        return f"the files of {here} are not recorded, and {file} has their hash: {_reinstall(there)}"
    how = "it in place from the same source" if locked.get("editable") else "the same wheel"
    return f"the files of {here} are not those of {file}: install {how}, or write the file again"


def _install(name: str, locked: Mapping[str, Any]) -> str:
    return f"pip install {name}=={locked['version']}, or write the file again by `torchplug lock`"


def _reinstall(installation: Installation) -> str:
    if installation.source is not None:
        return f"pip install --no-deps -e {installation.source}"
    return f"pip install --force-reinstall --no-deps {installation.name}=={installation.version}"


def _read(file: Path) -> Mapping[str, Mapping[str, Any]]:
    from tomllib import TOMLDecodeError, loads

    try:
        content = loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, TOMLDecodeError | UnicodeDecodeError):
            raise ConfigurationError(f"{file} is no lock file ({error}): write it by `torchplug lock`") from error
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{file} cannot be read: {reason}; write it by `torchplug lock > {file}`") from error
    for name, entry in content.items():
        if not isinstance(entry, dict) or not _is_entry(entry):
            raise ConfigurationError(f"{file} is malformed at {name!r}: write it again by `torchplug lock`")
    if BUILTIN not in content:
        raise ConfigurationError(f"{file} does not name {BUILTIN} itself: write it again by `torchplug lock`")
    return content


def _is_entry(entry: Mapping[str, Any]) -> bool:
    kinds = {"version": str, "hash": str, "editable": bool}
    return "version" in entry and all(isinstance(value, kinds.get(key, ())) for key, value in entry.items())
