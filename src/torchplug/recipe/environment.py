"""Environment variables that cannot be what was meant: refused before they act, or fail to act, in silence."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from torchplug.errors import ConfigurationError
from torchplug.processes.slurm import is_slurm_task
from torchplug.registry.permissions import ALLOW_LIST, BLOCK_LIST

_WHOLE = {
    "RANK": 0,
    "LOCAL_RANK": 0,
    "NODE_RANK": 0,
    "GROUP_RANK": 0,
    "WORLD_SIZE": 1,
    "LOCAL_WORLD_SIZE": 1,
    "MASTER_PORT": 1,
    "SLURM_NTASKS": 1,
    "SLURM_PROCID": 0,
    "SLURM_LOCALID": 0,
    "SLURM_NODEID": 0,
    "SLURM_NTASKS_PER_NODE": 1,
    "SLURM_NNODES": 1,
    "JSM_NAMESPACE_RANK": 0,
    "JSM_NAMESPACE_SIZE": 1,
    "JSM_NAMESPACE_LOCAL_RANK": 0,
}
"""Variables of launchers that must be whole numbers, with the smallest that makes sense."""

_LARGEST_PORT = 2**16 - 1
_SLURM = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS_PER_NODE")
PREFIX = "TORCHPLUG_"
"""What the names of all our variables begin with."""
_OWN = ("TORCHPLUG_CONFIG", ALLOW_LIST, BLOCK_LIST, "TORCHPLUG_RUN_DIRECTORY", "TORCHPLUG_TRACEBACKS")


@contextmanager
def without_malformed() -> Iterator[None]:
    """Hide launchers' variables that are no whole numbers: Lightning fails on them while it is imported."""
    hidden = {name: os.environ.pop(name) for name in _WHOLE if _malformed(name)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def refuse_launch(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse variables of launchers that are malformed, or lack those that belong to them.

    Raises:
        ConfigurationError: naming the variable, and what to set, unset or call.
    """
    for name, least in _WHOLE.items():
        if _malformed(name, environment):
            raise ConfigurationError(
                f"{name}={environment[name]} in the environment: it must be a whole number of at least {least}; "
                "unset it, or start the ranks with torchrun"
            )
    port = int(environment.get("MASTER_PORT", "1"))
    if port > _LARGEST_PORT:
        raise ConfigurationError(f"MASTER_PORT={port} in the environment: ports end at {_LARGEST_PORT}")
    _refuse_torch_launch(environment)
    _refuse_slurm_launch(environment)


def _refuse_torch_launch(environment: Mapping[str, str]) -> None:
    launched_by_lightning = "LOCAL_RANK" in environment
    if "RANK" in environment:
        rank, world = int(environment["RANK"]), int(environment.get("WORLD_SIZE", "1"))
        if "WORLD_SIZE" not in environment and rank > 0:
            raise ConfigurationError(f"RANK={rank} without WORLD_SIZE in the environment: {_torchrun('RANK')}")
        if rank >= world:
            raise ConfigurationError(f"RANK={rank} of WORLD_SIZE={world} in the environment: ranks count from 0")
        if world > 1:
            missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK") if not environment.get(name)]
            if missing:
                raise ConfigurationError(
                    f"WORLD_SIZE={world} without {', '.join(missing)} in the environment: "
                    f"{_torchrun('WORLD_SIZE, RANK')}"
                )
    elif int(environment.get("WORLD_SIZE", "1")) > 1 and not launched_by_lightning and not is_slurm_task(environment):
        raise ConfigurationError(
            f"WORLD_SIZE={environment['WORLD_SIZE']} without RANK in the environment: {_torchrun('WORLD_SIZE')}"
        )


def _refuse_slurm_launch(environment: Mapping[str, str]) -> None:
    if not is_slurm_task(environment):
        return
    tasks = int(environment["SLURM_NTASKS"])
    needed = [name for name in _SLURM if tasks > 1 or name != "SLURM_NTASKS_PER_NODE"]
    missing = [name for name in needed if name not in environment]
    if missing:
        raise ConfigurationError(
            f"SLURM_NTASKS={tasks} without {', '.join(missing)} in the environment: start with srun "
            "--ntasks-per-node, or unset SLURM_NTASKS to run one process"
        )
    if int(environment["SLURM_PROCID"]) >= tasks:
        raise ConfigurationError(
            f"SLURM_PROCID={environment['SLURM_PROCID']} of SLURM_NTASKS={tasks} in the environment: ranks count from 0"
        )


def refuse_unknown(accepted: Mapping[str, Iterable[str]], plugins: Iterable[str]) -> None:
    """Refuse variables of torchplug's own prefix that set nothing.

    Args:
        accepted: the settings that each subcommand takes, such as `trainer.max_epochs`.
        plugins: installed distributions, whose own variables may begin with their names.

    Raises:
        ConfigurationError: naming the variable and a near one.
    """
    names = {f"{command}__{name}" for command, settings in accepted.items() for name in settings}
    known = {f"{PREFIX}{name.upper().replace('.', '__')}" for name in names} | set(_OWN)
    theirs = tuple(re.sub(r"\W", "_", plugin).upper() + "_" for plugin in plugins)
    for name in sorted(os.environ):
        if not name.startswith(PREFIX) or name in known or name.startswith(tuple(t for t in theirs if t != PREFIX)):
            continue
        raise ConfigurationError(f"{name} in the environment sets nothing: {_advice(name, known)}")


def _advice(name: str, known: Collection[str]) -> str:
    owner = next((other for other in sorted(known, key=len, reverse=True) if name.startswith(f"{other}__")), None)
    if owner is not None and "__MODEL__" in owner:
        parameter = name.removeprefix(f"{owner}__").lower()
        return f"give a component with its parameters in {owner}='{{class_path: NAME, init_args: {{{parameter}: …}}}}'"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
    return (
        f"did you mean {near[0]}?" if near else "unset it; `--help` lists the settings, TORCHPLUG_FIT__A__B sets --a.b"
    )


def _malformed(name: str, environment: Mapping[str, str] = os.environ) -> bool:
    value = environment.get(name)
    if value is None:
        return False
    return not re.fullmatch(r"\s*\d{1,9}\s*", value, re.ASCII) or int(value) < _WHOLE[name]


def _torchrun(names: str) -> str:
    return f"start the ranks with torchrun, or unset {names}"
