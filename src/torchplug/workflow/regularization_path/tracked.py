"""A regularization path in Weights & Biases: one run, with a step for each λ."""

from __future__ import annotations

from collections.abc import Iterator

from torchplug.tracking.flat_config import flat_config
from torchplug.tracking.settings import Tracking
from torchplug.tracking.wandb_group import GroupedRun, send_group
from torchplug.workflow.regularization_path.result import RegularizationPath


def send(found: RegularizationPath, tracking: Tracking, resumed: bool) -> None:
    """Send the table and both choices, if tracking is not disabled.

    Args:
        found: what was found.
        tracking: W&B's settings.
        resumed: whether it may have been sent before.
    """
    send_group(tracking, found.run, _runs(found, tracking), found.run.provenance, resumed)


def _runs(found: RegularizationPath, tracking: Tracking) -> Iterator[GroupedRun]:
    """The one run, if it is asked for."""
    yield GroupedRun(
        label="path",
        name=tracking.name or "path",
        config=flat_config(found.run.config),
        rows=[
            {"step": step, "epoch": step, **{f"path/{name}": value for name, value in row.items() if value is not None}}
            for step, row in enumerate(found.table.to_dicts())
        ],
        summary={"best": found.best, "best_1se": found.best_1se},
        directions={"mean": found.direction},
    )
