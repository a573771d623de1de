"""The checkpoint of a run of many models: one file, from which each model's own checkpoint is made.

    torchplug       version
    data            which tables these are, as a checkpoint of one model says it
    configurations  by number: hyper_parameters, components, constants (the loss's and the penalties' buffers)
    programs        models that are trained together, a list of
        configurations, folds   their numbers: model f·M + m is the m-th of M configurations in the f-th fold
        preprocessing, outputs  of each fold; the number of scores
        steps                   optimizer steps of an epoch, of each fold
        state                   None before the first step, else what training goes on from, with
            groups              numbers of models, their parameters and buffers (k, …) by name, and their progress

Models that are trained one by one have runs of their own below the run, `models/<configuration>-<fold>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchplug.checkpoint_record import KEY
from torchplug.errors import CheckpointError
from torchplug.tracking.checkpoint_entries import Entries
from torchplug.tracking.checkpoint_file import read_checkpoint

_PROGRAM = {"configurations": list, "folds": list, "preprocessing": list, "steps": list, "state": Mapping | None}


def stack_file(run: Path) -> Path:
    """The checkpoint of all models of a run directory."""
    return run / "checkpoints" / "stack.ckpt"


def own_directory(run: Path, configuration: int, fold: int) -> Path:
    """The run directory of a model that is trained by itself."""
    return run / "models" / f"{configuration}-{fold}"


def read_stack(run: Path) -> dict[str, Any]:
    """The content of a run's checkpoint of many models.

    Raises:
        CheckpointError: if there is none, or it is damaged or malformed.
    """
    path = stack_file(run)
    if not path.is_file():
        raise CheckpointError(f"{run} holds no run of many models: checkpoints/{path.name} is missing")
    content = read_checkpoint(path)
    entries = Entries(content, path)
    entries.inside(KEY)
    entries.inside("data")
    entries.inside("configurations")
    for program in entries.of("programs", list, "a list"):
        own = Entries(program, path, "programs.")
        for name, kind in _PROGRAM.items():
            own.of(name, kind, "of the type that was written")
    return content


def model_checkpoint(run: Path, configuration: int, fold: int) -> dict[str, Any]:
    """The content of an ordinary checkpoint of one model, with the parameters of its last step so far.

    Args:
        run: the directory of a run of many models.
        configuration: its number, from 0.
        fold: its number, from 0.

    Raises:
        CheckpointError: if there is no such model, or it has not been trained yet.
    """
    own = own_directory(run, configuration, fold) / "checkpoints" / "last.ckpt"
    if own.is_file():
        return read_checkpoint(own)
    content = read_stack(run)
    for program in content["programs"]:
        if configuration in program["configurations"] and fold in program["folds"] and program["state"] is not None:
            return _unstacked(content, program, configuration, fold)
    raise CheckpointError(
        f"{run} has no configuration {configuration} in a fold {fold}, both counted from 0, or has not begun with it"
    )


def _unstacked(content: Mapping[str, Any], program: Mapping[str, Any], configuration: int, fold: int) -> dict[str, Any]:
    place = program["folds"].index(fold)
    number = place * len(program["configurations"]) + program["configurations"].index(configuration)
    group = next(group for group in program["state"]["groups"] if number in group["numbers"])
    row = group["numbers"].index(number)
    epochs = int(group["progress"]["epochs"][row])
    described = content["configurations"][configuration]
    network = {f"network.{name}": own[row].clone() for name, own in group["parameters"].items()}
    return {
        "epoch": epochs,
        "global_step": epochs * program["steps"][place],
        "pytorch-lightning_version": content["pytorch-lightning_version"],
        "state_dict": {**network, **described["constants"]},
        "hparams_name": None,
        "hyper_parameters": described["hyper_parameters"],
        KEY: {
            "version": content[KEY]["version"],
            "components": described["components"],
            "preprocessing": program["preprocessing"][place],
            "outputs": program["outputs"],
        },
    }
