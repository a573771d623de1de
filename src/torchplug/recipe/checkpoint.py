"""From `--ckpt_path` to a file and to the settings it was trained with, before anything is parsed."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace

from torchplug.data.tabular import TabularData
from torchplug.errors import CheckpointError
from torchplug.fitting.origin import Origin
from torchplug.recipe.paths import refuse_impossible
from torchplug.recipe.settings import Settings, top_level
from torchplug.recipe.sources import CommandLine, option
from torchplug.recipe.subcommands import SUBCOMMANDS
from torchplug.tracking.checkpoints import newer_without_checkpoint, resolve_checkpoint
from torchplug.tracking.ensemble import models_in
from torchplug.tracking.run import Run


def settings_of(origin: Origin, recipe: Settings, resume: bool) -> Settings:
    """The recipe's settings with those that the checkpoint was trained with in their place.

    Args:
        origin: the checkpoint.
        recipe: what stands where the checkpoint says nothing.
        resume: whether training is resumed, with the run's settings of trainer and tracking, and its seed.

    Raises:
        CheckpointError: if the network was one of the user's own.
    """
    model = models_in(origin.content)[0]["hyper_parameters"]
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
        refit=bool(config.get("refit", recipe.refit)),
    )


def is_of_ensemble(line: CommandLine) -> bool:
    """Whether an ensemble is trained, which is resumed by its own settings."""
    return line.subcommand == "fit" and option(line, "ensemble") is not None


def locate(line: CommandLine, recipe: str) -> Origin | None:
    """The checkpoint that a command starts from: best, last, a run directory or a file; none for a new fit.

    Args:
        line: the command line.
        recipe: whose runs best and last are looked for in.

    Raises:
        CheckpointError: if there is no such checkpoint, or it cannot be read.
        ConfigurationError: if it is no path.
    """
    if "ckpt_path" not in top_level(line.subcommand) or is_of_ensemble(line):
        return None
    wanted = option(line, "ckpt_path")
    if wanted is None and SUBCOMMANDS[line.subcommand].starts_from == "checkpoint":
        wanted = "best"
    if wanted is None:
        return None
    refuse_impossible("--ckpt_path", wanted)
    file = resolve_checkpoint(wanted, recipe)
    origin = Origin.of(file, resume=line.subcommand == "fit")
    if wanted in ("best", "last") and origin.run is not None:
        origin = replace(origin, note=_which(wanted, origin.run))
    return origin


def _which(wanted: str, run: Run) -> str:
    """Which run a word stands for, and why not a newer one."""
    newer = newer_without_checkpoint(run)
    why = "" if newer is None else f", as {os.path.relpath(newer.path)}, which is newer, has no checkpoint"
    return f"{wanted} is that of {os.path.relpath(run.path)}{why}"
