"""An ensemble in Weights & Biases: one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torchplug.registry.component import Direction
from torchplug.tracking.flat_config import flat_config
from torchplug.tracking.jsonl import JsonlLogger, plain_values
from torchplug.tracking.settings import Tracking
from torchplug.tracking.wandb_group import ConfigurationRun, GroupedRun, send_group
from torchplug.workflow.ensemble.result import EnsembleFit


def send(found: EnsembleFit, tracking: Tracking, directions: Mapping[str, Direction], resumed: bool) -> None:
    """Send the members' mean and standard deviation by epoch, and the final metrics, if tracking is not disabled.

    Args:
        found: what was found.
        tracking: W&B's settings.
        directions: which value of a metric is the best.
        resumed: whether it may have been sent before.
    """
    config = {name: value for name, value in found.run.config.items() if name not in ("configurations", "folds")}
    used = [result for number, result in enumerate(found.results) if number not in found.left_out]
    members = ConfigurationRun(
        number=0,
        config=config,
        rows=[row for row in JsonlLogger(found.run).read() if "configuration" in row],
        final=[result.metrics for result in used],
        outcome=f"{len(used)} of {len(found.results)} members",
        succeeded=not found.left_out,
        directions=directions,
    )

    def written(folder: Path) -> list[Path]:
        found.ensemble.save_checkpoint(folder / found.run.ensemble.name)
        return [folder / found.run.ensemble.name]

    run = GroupedRun(
        label="ensemble",
        name=tracking.name or "ensemble",
        config=flat_config(config),
        rows=members.history(),
        summary={"outcome": members.outcome, **plain_values(final_values(found))},
        directions={**directions, **members.best()},
        write_checkpoints=written,
    )
    send_group(tracking, found.run, [run], found.run.provenance, resumed)


def final_values(found: EnsembleFit) -> dict[str, float]:
    """The ensemble's metrics, and mean and standard deviation of its members', by name; NaN where one is undefined."""
    mean = {f"{name}_mean": value for name, value in found.mean.items()}
    deviation = {f"{name}_sd": value for name, value in found.deviation.items()}
    return {**found.metrics, **mean, **deviation}
