"""Validation of a checkpoint before a fit is resumed from it: counts, and the states of optimizer and scheduler."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from torchplug.checkpoint_record import KEY
from torchplug.registry.component import Capability
from torchplug.resolved_config import ResolvedConfig
from torchplug.tracking.checkpoint_entries import Entries, is_finite, leaves
from torchplug.training.fit_progress import check_record
from torchplug.trial_step import trial_step

_LIGHTNING = re.compile(r"(\d+)(?:\.\d+){1,2}(?:\.?(?:a|b|rc|post|dev)\d*)*(?:\+[\w.]+)?")
_OLDEST_LIGHTNING = 2
_COUNTED = (
    "epoch_progress",
    "epoch_loop.batch_progress",
    "epoch_loop.scheduler_progress",
    "epoch_loop.automatic_optimization.optim_progress",
)
"""The counters of Lightning's loops; missing ones would silently start at 0."""


def check_progress(entries: Entries) -> None:
    """Refuse counts of steps and epochs from which Lightning could not resume.

    Raises:
        CheckpointError: naming the entry that is missing or malformed.
    """
    entries.count("epoch")
    entries.count("global_step")
    version = _LIGHTNING.fullmatch(entries.of("pytorch-lightning_version", str, "text"))
    if version is None or int(version[1]) < _OLDEST_LIGHTNING:
        raise entries.malformed("pytorch-lightning_version", "is no version that torchplug runs with")
    callbacks = entries.inside("callbacks")
    for name in callbacks.content:
        state = callbacks.inside(name)
        for key in state.content:
            if str(key).endswith("_path"):  # where ModelCheckpoint's files lie
                state.of(key, str, "text")
    record = entries.inside(KEY)
    if record.of("fit", Mapping | None, "a mapping") is not None:
        try:
            check_record(record.content["fit"])
        except ValueError as error:
            raise record.malformed("fit", f"cannot be read ({error})") from error
    fit = entries.inside("loops").inside("fit_loop")
    for name in _COUNTED:
        fit.inside(name)
    for name in fit.content:
        if name.endswith("state_dict"):
            fit.inside(name)
        elif name.endswith("progress"):
            _check_counts(fit.inside(name))
    fit.inside("epoch_progress").inside("current").count("processed")
    fit.inside("epoch_loop.batch_progress").inside("current").count("ready")
    fit.inside("epoch_loop.state_dict").count("_batches_that_stepped")


def _check_counts(counts: Entries) -> None:
    """Refuse anything but counts of ready, started and completed work, and flags."""
    for name, value in counts.content.items():
        if name in ("total", "current"):
            inside = counts.inside(name)
            for moment in {"ready", "completed", *inside.content}:
                inside.count(moment)
        elif not isinstance(value, bool):
            _check_counts(counts.inside(name))


def check_optimizer(entries: Entries, resolved: ResolvedConfig) -> None:
    """Refuse states with which optimizer or scheduler would silently start afresh, or continue with NaN.

    Raises:
        CheckpointError: naming the entry that is missing or malformed.
    """
    optimizers = entries.of("optimizer_states", list, "a list")
    schedulers = entries.of("lr_schedulers", list, "a list")
    wanted = int(resolved.scheduler is not None and resolved.takes_learning_rate)
    for name, states, number in (("optimizer_states", optimizers, 1), ("lr_schedulers", schedulers, wanted)):
        if len(states) != number:
            raise entries.malformed(name, f"holds {len(states)} states, not {number}")
    if not all(map(is_finite, leaves(optimizers))):
        raise entries.malformed("optimizer_states", "holds NaN or infinite values")
    state = Entries({"optimizer_states": optimizers[0]}, entries.path).inside("optimizer_states")
    trial = _trial(resolved)
    state.fits("param_groups", [_shared(trial.state_dict()["param_groups"])])
    kept = state.of("state", Mapping, "a mapping")
    if not kept and trial.state and entries.content["global_step"]:
        raise state.malformed("state", "is empty")
    if Capability.ELEMENTWISE in resolved.optimizer.capabilities:
        for index in kept:
            Entries(kept, entries.path, "optimizer_states.state.").fits(index, trial.state_dict()["state"].get(0, {}))
    if schedulers:
        scheduler: Any = resolved.build_scheduler(trial, total_steps=1000, steps_per_epoch=10)
        stored = Entries({"lr_schedulers": schedulers[0]}, entries.path).inside("lr_schedulers")
        for name, example in scheduler.state_dict().items():
            if name in stored.content or name == "last_epoch":  # other versions of torch have other attributes
                stored.fits(name, example)


def _shared(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings that all of an optimizer's groups have: those of matrices and vectors may differ."""
    names = set.intersection(*map(set, groups))
    return {name: value for name, value in groups[0].items() if name in names}


def _trial(resolved: ResolvedConfig) -> Optimizer:
    """The optimizer after a step on one parameter, as an example of its state.

    A full-batch optimizer makes no step here: it has an entry in its state instead. With an optimizer that cannot step
    without a network, nothing is compared.
    """
    parameter = nn.Parameter(torch.ones(1) if resolved.optimizer.groups is None else torch.ones(1, 1))
    optimizer = resolved.trial_optimizer(parameter)
    if resolved.is_full_batch:
        optimizer.state[parameter] = {}
        return optimizer
    parameter.grad = torch.ones_like(parameter)
    closure: Any = lambda: torch.ones(())  # noqa: E731 what a loss is, where an optimizer asks for it
    try:
        trial_step(optimizer, closure)
    except Exception:
        return resolved.trial_optimizer()
    return optimizer
