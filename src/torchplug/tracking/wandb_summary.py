"""Final values that a W&B run gets after its job has ended, such as those of a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torchplug.registry.component import Direction
from torchplug.tracking.jsonl import JsonlLogger
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.wandb import wandb_logger, warn


def add_to_summary(
    directory: Run, tracking: Tracking, values: Mapping[str, Any], directions: Mapping[str, Direction]
) -> None:
    """Add values to the summary of a run that was tracked; do nothing for one that was not.

    A server continues the run by its id. Offline, a new part holds the whole run with these values, and the earlier
    parts are moved to `wandb/superseded`, as when a fit is resumed.

    Args:
        directory: the run.
        tracking: the settings that it was tracked by.
        values: by name.
        directions: which value of a metric, whatever its split, is the best.
    """
    if not (directory.path / "wandb").is_dir():
        return
    own = replace(tracking, log_checkpoint=False)  # it was sent when the fit ended
    logger = wandb_logger(own, directory, directory.config, directory.provenance, directions, resumed=True)
    if logger is None:
        return
    logger.replay(JsonlLogger(directory).read())
    try:
        logger.experiment.summary.update(dict(values))
    except Exception as error:
        warn("the summary was not sent", error)
    logger.finish()
