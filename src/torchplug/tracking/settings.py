"""What a user sets about tracking; in a module of its own, for wandb is slow to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["auto", "online", "offline", "disabled"]


@dataclass
class Tracking:
    """Settings of tracking by Weights & Biases.

    Args:
        mode: online; offline (a folder in the run directory, to be sent with `wandb sync`); disabled; or auto: what
            WANDB_DISABLED or WANDB_MODE says, else online where wandb is logged in, else offline.
        project: the W&B project; null: that of WANDB_PROJECT, else torchplug.
        group: shown together in W&B: runs that belong to one study.
        tags: labels of the run.
        name: the run's name; W&B invents one by default.
        id: the id of a W&B run to continue. Offline, the part is written beside the first, and
            `wandb sync` joins them only with `--append` and after the first has been sent.
        log_checkpoint: send the best checkpoint as an artifact when the run ends.
    """

    mode: Mode = "auto"
    project: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    name: str | None = None
    id: str | None = None
    log_checkpoint: bool = False
