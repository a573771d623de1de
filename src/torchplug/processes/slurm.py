"""Whether SLURM's `srun` has started this process."""

from __future__ import annotations

from collections.abc import Mapping


def is_slurm_task(environment: Mapping[str, str]) -> bool:
    """Whether Lightning takes this process for one that srun started."""
    return "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive")
