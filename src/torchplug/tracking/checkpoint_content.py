"""Validation of a checkpoint's content before a command uses it."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from torchplug.checkpoint_record import CALIBRATION, KEY, RECORDED, REFIT
from torchplug.errors import CheckpointError, TorchplugError, UnknownComponentError
from torchplug.evaluation.calibration import Calibration
from torchplug.module import ComponentModule
from torchplug.preprocessing import Preprocessing
from torchplug.resolved_config import ResolvedConfig
from torchplug.tracking.checkpoint_entries import Entries, is_finite
from torchplug.tracking.checkpoint_progress import check_optimizer, check_progress
from torchplug.tracking.checkpoint_versions import missing_plugins, other_versions
from torchplug.tracking.ensemble import MEMBERS, is_ensemble


def check_content(content: Mapping[str, Any], path: Path, resume: bool) -> None:
    """Refuse a checkpoint that lacks what a command uses.

    Args:
        content: as read from the file.
        path: the file, for messages.
        resume: whether a fit is resumed from it; otherwise it is used for validation, test or prediction.

    Raises:
        CheckpointError: naming the entry that is missing or malformed.
        ConfigurationError: for components that are not installed or do not go together.
    """
    if is_ensemble(content):
        if resume:
            raise CheckpointError(
                f"{path} holds an ensemble, whose training goes on by the command that began it, with --ensemble"
            )
        for member in Entries(content, path).of(MEMBERS, list, "a list"):
            check_content(member if isinstance(member, Mapping) else {}, path, resume)
        return
    if KEY not in content:
        raise CheckpointError(f"{path} was not written by torchplug: choose a checkpoint that a recipe saved")
    entries = Entries(content, path)
    try:
        with _naming_plugins(entries):
            resolved = _check_components(entries)
        _check_record(entries.inside(KEY), resolved)
        if "datamodule_hyper_parameters" in content:
            entries.of("datamodule_hyper_parameters", Mapping, "a mapping")
        _check_tensors(entries)
        if resume:
            _refuse_refitted(content, path)
            check_progress(entries)
            check_optimizer(entries, resolved)
    except RecursionError as error:
        raise CheckpointError(f"{path} is malformed: its entries are nested without end") from error


def _refuse_refitted(content: Mapping[str, Any], path: Path) -> None:
    if REFIT in content[KEY]:
        raise CheckpointError(f"{path} holds a refitted model, whose training is over: resume from last.ckpt beside it")


def load_weights(module: ComponentModule, content: Mapping[str, Any], path: Path) -> None:
    """Load the weights of a checkpoint into a module.

    Args:
        module: of the checkpoint's components, after its `restore`.
        content: as read from the file.
        path: the file, for messages.

    Raises:
        CheckpointError: if the checkpoint's weights are not this module's, or NaN or infinite.
    """
    try:
        module.load_state_dict(content["state_dict"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise CheckpointError(f"{path} does not hold the weights of its components: {text}") from error
    broken = [name for name, value in module.named_parameters() if not is_finite(value)]
    broken += [name for name, value in module.named_buffers() if value.is_floating_point() and value.isnan().any()]
    if broken:  # an infinite buffer may be a mask
        raise CheckpointError(f"{path}: its weights {broken[0]} are NaN or infinite, so nothing can be computed")


def _check_components(entries: Entries) -> ResolvedConfig:
    """Resolve the components; without a model, the network is the user's own."""
    settings = entries.of("hyper_parameters", Mapping, "a mapping")
    known = list(inspect.signature(ComponentModule).parameters)
    if unknown := [name for name in settings if name not in known]:
        raise entries.malformed("hyper_parameters", f"has {unknown[0]!r}, which ComponentModule has not")
    inside = entries.inside("hyper_parameters")
    regularizers = inside.of("regularizers", list, "a list")
    metrics = inside.of("metrics", list, "a list") if "metrics" in settings else []  # older ones have none
    slots = {slot: settings.get(slot) for slot in ("model", "loss", "optimizer", "scheduler")}
    optional = [slots["model"], slots["scheduler"]]
    for value in [
        slots["loss"],
        slots["optimizer"],
        *regularizers,
        *metrics,
        *(value for value in optional if value is not None),
    ]:
        if not _is_spec(value):
            raise entries.malformed("hyper_parameters", f"has {reprlib.repr(value)} where a component is named")
    try:
        with _naming(entries.path):
            return ResolvedConfig.of(**slots, regularizers=regularizers, metrics=metrics)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise entries.malformed("hyper_parameters", f"cannot be built ({type(error).__name__}: {text})") from error


@contextmanager
def _naming_plugins(entries: Entries) -> Iterator[None]:
    """Say of components that do not exist which versions of which plugins a checkpoint was made with."""
    try:
        yield
    except UnknownComponentError as error:
        if missing := missing_plugins(entries.content):
            raise UnknownComponentError(f"{entries.path}: {missing[0]}") from error
        raise UnknownComponentError("; ".join([str(error), *other_versions(entries.content)])) from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Prefix an error about a file's content with the file."""
    try:
        yield
    except TorchplugError as error:
        raise type(error)(f"{path}: {error}") from error


def _is_spec(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("parameters"), Mapping)
        and set(value) == {"name", "parameters"}
        and all(isinstance(name, str) for name in value["parameters"])
    )


def _check_record(record: Entries, resolved: ResolvedConfig) -> None:
    for component in record.of("components", list, "a list"):
        if not isinstance(component, Mapping) or not all(isinstance(component.get(name), str) for name in RECORDED):
            raise record.malformed("components", f"does not say of each component {', '.join(RECORDED)}")
    record.of("version", str, "text")
    with _naming(record.path):
        calibration = Calibration.from_state(record.content.get(CALIBRATION))
    if record.of("preprocessing", Mapping | None, "a mapping") is not None:
        with _naming(record.path):
            info = Preprocessing.from_state(record.content["preprocessing"]).info
        try:
            outputs = resolved.build_loss().outputs(info)
        except ValueError as error:
            raise record.malformed("preprocessing", f"has a target that the loss does not take: {error}") from error
        if record.count("outputs", least=1) != outputs:
            raise record.malformed("outputs", f"is not the {outputs} that the loss takes")
        _check_residuals(record, calibration, len(info.columns))


def _check_residuals(record: Entries, calibration: Calibration | None, columns: int) -> None:
    residuals = None if calibration is None else calibration.residuals
    if residuals is not None and residuals.values.shape[1] != columns:
        raise record.malformed(CALIBRATION, f"has residuals of {residuals.values.shape[1]} columns, not {columns}")


def _check_tensors(entries: Entries) -> None:
    for name, value in entries.of("state_dict", Mapping, "a mapping").items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise entries.malformed("state_dict", f"holds {type(value).__name__} as {name!r}, not a tensor by its name")
