"""From `--ckpt_path` to a file and to the settings it was trained with, before anything is parsed."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torchplug.data.tabular import TabularData
from torchplug.errors import CheckpointError
from torchplug.fitting.origin import Origin
from torchplug.recipe.configuration import configurations
from torchplug.recipe.parser import ENVIRONMENT_PREFIX, SUBCOMMANDS, Settings, subcommand_of
from torchplug.recipe.paths import refuse_impossible
from torchplug.tracking.checkpoints import newer_without_checkpoint, resolve_checkpoint
from torchplug.tracking.run import Run

_FLAG = "--ckpt_path"


def settings_of(origin: Origin, recipe: Settings, resume: bool) -> Settings:
    """The recipe's settings with those that the checkpoint was trained with in their place.

    Args:
        origin: the checkpoint.
        recipe: what stands where the checkpoint says nothing.
        resume: whether training goes on, with the run's settings of trainer and tracking, and its seed.

    Raises:
        CheckpointError: if the network was one of the user's own.
    """
    model = origin.content["hyper_parameters"]
    if model.get("model") is None:
        raise CheckpointError(f"{origin.file} holds a network of your own: load it in Python, giving the network")
    known = inspect.signature(TabularData).parameters
    stored = origin.content.get("datamodule_hyper_parameters") or {}
    data = {key: value for key, value in stored.items() if key in known}
    settings = replace(recipe, model=model, data=data or recipe.data)
    if not resume or origin.run is None:
        return settings
    config = origin.config
    return replace(
        settings,
        trainer=config.get("trainer") or {},
        tracking=config.get("tracking") or {},
        seed=config.get("seed_everything", recipe.seed),
    )


def locate(arguments: Sequence[str], recipe: str) -> tuple[list[str], Origin | None]:
    """Turn best, last, a run directory or a file into a file, in the arguments themselves.

    Args:
        arguments: the command line, with its subcommand.
        recipe: whose runs best and last are looked for in.

    Returns:
        The arguments with `--ckpt_path FILE`, and the checkpoint; no checkpoint for a new fit.

    Raises:
        CheckpointError: if there is no such checkpoint, or it cannot be read.
        ConfigurationError: if a configuration file cannot be read.
    """
    subcommand = subcommand_of(arguments)
    if subcommand not in SUBCOMMANDS:
        return list(arguments), None
    arguments = list(arguments)
    wanted, kept = _flag(arguments)
    configured = _from_configuration(arguments, subcommand)
    if wanted is None:
        wanted = os.environ.get(f"{ENVIRONMENT_PREFIX}_{subcommand.upper()}__CKPT_PATH")
    if wanted is None:
        wanted = configured
    if wanted is None and subcommand != "fit":
        wanted = "best"
    if wanted is None or {"-h", "--help"} & set(arguments):
        return arguments, None
    refuse_impossible("--ckpt_path", wanted)
    file = resolve_checkpoint(wanted, recipe)
    origin = Origin.of(file, resume=subcommand == "fit")
    if wanted in ("best", "last") and origin.run is not None:
        origin = replace(origin, note=_which(wanted, origin.run))
    return [*kept, _FLAG, str(file)], origin


def _which(wanted: str, run: Run) -> str:
    """Which run a word stands for, and why not a newer one."""
    newer = newer_without_checkpoint(run)
    why = "" if newer is None else f", as {os.path.relpath(newer.path)}, which is newer, has no checkpoint"
    return f"{wanted} is that of {os.path.relpath(run.path)}{why}"


def _flag(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The value of the last --ckpt_path, and the arguments without any."""
    wanted, kept, position = None, [], 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == _FLAG and position + 1 < len(arguments):
            wanted = arguments[position + 1]
            position += 1
        elif argument.startswith(f"{_FLAG}="):
            wanted = argument.partition("=")[2]
        else:
            kept.append(argument)
        position += 1
    return wanted, kept


def _from_configuration(arguments: Sequence[str], subcommand: str) -> str | None:
    wanted = None
    for content in configurations(arguments):
        inner = content.get(subcommand)
        for level in (content, inner if isinstance(inner, Mapping) else {}):
            wanted = level.get("ckpt_path") or wanted
    return wanted
