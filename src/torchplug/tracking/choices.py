"""Resolution of tracking settings and W&B's environment variables, and checks of names that W&B would refuse."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from torchplug.errors import ConfigurationError
from torchplug.terminal import printable
from torchplug.tracking.settings import Mode, Tracking

DEFAULT_PROJECT = "torchplug"
_MODES: Mapping[str, Mode] = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
"""WANDB_MODE's spellings, in any case, and what they mean."""

_TRUE = ("true", "t", "yes", "y", "on", "1")
_FALSE = ("false", "f", "no", "n", "off", "0", "")
_LONGEST = 128
_LONGEST_TAG = 64
_FORBIDDEN = {"project": "/\\#?%:", "id": "/\\#?%:;,'"}
"""Characters that W&B refuses (wandb_settings.py, and in names of files), by the setting."""

_VARIABLES = {"project": "WANDB_PROJECT", "id": "WANDB_RUN_ID", "group": "WANDB_RUN_GROUP", "name": "WANDB_NAME"}


def chosen(tracking: Tracking) -> Tracking:
    """Return the settings, completed by environment variables; flags take precedence.

    Raises:
        ConfigurationError: for names that W&B would refuse, and variables with invalid values.
    """
    for setting in ("project", "id", "group", "name"):
        _refuse_name(f"--tracking.{setting}", getattr(tracking, setting), setting)
    for tag in tracking.tags:
        if not 1 <= len(tag) <= _LONGEST_TAG:
            raise ConfigurationError(f"--tracking.tags: a tag has 1 to {_LONGEST_TAG} characters, not {len(tag)}")
        _refuse_control_characters("--tracking.tags", tag)
    mode = chosen_mode(tracking.mode)
    if mode != "disabled":
        for setting, variable in _VARIABLES.items():
            if getattr(tracking, setting) is None and os.environ.get(variable):
                _refuse_name(f"{variable} in the environment", os.environ[variable], setting)
    project = tracking.project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT
    return replace(tracking, mode=mode, project=project)


def chosen_mode(mode: Mode) -> Mode:
    """Return the mode; for `auto`, that of WANDB_DISABLED or WANDB_MODE if one is set, else `auto`.

    Raises:
        ConfigurationError: if such a variable has an invalid value.
    """
    disabled, wanted = os.environ.get("WANDB_DISABLED", ""), os.environ.get("WANDB_MODE", "")
    if disabled.strip().lower() not in (*_TRUE, *_FALSE):
        raise ConfigurationError(f"WANDB_DISABLED={disabled} in the environment: it is true or false")
    if wanted.strip() and wanted.strip().lower() not in _MODES:
        raise ConfigurationError(
            f"WANDB_MODE={wanted} in the environment: it is one of {', '.join(_MODES)}; or give --tracking.mode"
        )
    if mode != "auto":
        return mode
    if disabled.strip().lower() in _TRUE:
        return "disabled"
    return _MODES.get(wanted.strip().lower(), "auto")


def spell_for_wandb() -> None:
    """Rewrite WANDB_MODE in the spelling that wandb accepts at import and login."""
    wanted = os.environ.get("WANDB_MODE")
    if wanted is None:
        return
    if not wanted.strip():
        del os.environ["WANDB_MODE"]
    else:
        os.environ["WANDB_MODE"] = wanted.strip().lower()


def _refuse_name(where: str, value: str | None, setting: str) -> None:
    if value is None:
        return
    if not value.strip():
        raise ConfigurationError(f"{where} is empty: leave it out, or give a name")
    if value != value.strip():
        raise ConfigurationError(f"{where} {value!r}: it must not begin or end with white space")
    if len(value) > _LONGEST:
        raise ConfigurationError(f"{where} has {len(value)} characters, and W&B takes at most {_LONGEST}")
    _refuse_control_characters(where, value)
    bad = [character for character in _FORBIDDEN.get(setting, "") if character in value]
    if bad:
        raise ConfigurationError(
            f"{where} {value}: W&B refuses {' '.join(bad)} there (none of {' '.join(_FORBIDDEN[setting])})"
        )


def _refuse_control_characters(where: str, value: str) -> None:
    if printable(value) != value:
        raise ConfigurationError(f"{where} {printable(value)}: it holds control characters")
