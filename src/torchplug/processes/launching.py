"""Launching of ranks, instead of by Lightning, so that their ends can be reported."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.distributed.distributed_c10d import default_pg_timeout

from torchplug.processes.job import Job, begin, current
from torchplug.processes.meeting import Meeting

COLLECTIVE_LIMIT = timedelta(minutes=10)
"""Timeout of collective operations; torch's default is 30 minutes."""


def gather(trainer: Trainer) -> Job | None:
    """Start the other ranks if Lightning would, and return the job; None if this process trains alone.

    Lightning's launcher ends this process with SIGKILL when another rank has ended, whatever the reason was.

    Args:
        trainer: of the fit or the evaluation to come.
    """
    strategy: Any = trainer.strategy
    if trainer.world_size == 1:
        return None
    if getattr(strategy, "_timeout", None) == default_pg_timeout:
        strategy._timeout = COLLECTIVE_LIMIT
    launcher = strategy.launcher
    if launcher is not None and not isinstance(launcher, _SubprocessScriptLauncher):
        return None
    if launcher is None or launcher.cluster_environment.creates_processes_externally:
        return current()
    environment = launcher.cluster_environment
    environment.validate_settings(num_devices=launcher.num_processes, num_nodes=launcher.num_nodes)
    launcher._call_children_scripts()
    _set_num_threads_if_needed(num_processes=launcher.num_processes)
    strategy._launcher = None
    meeting = Meeting(0, trainer.world_size, environment.main_address, environment.main_port, True)
    return begin(Job(meeting, dict(enumerate(launcher.procs, start=1))))
