"""Weights & Biases for many models: a run for each configuration, in one group."""

from __future__ import annotations

import os
import re
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from torchplug.registry.component import Direction
from torchplug.terminal import printable
from torchplug.tracking.choices import chosen
from torchplug.tracking.flat_config import flat_config
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.wandb import WandbLogger, warn

if TYPE_CHECKING:
    from wandb import Run as WandbRun


@dataclass(frozen=True)
class ConfigurationRun:
    """What Weights & Biases is told of a configuration.

    Args:
        number: its own.
        config: its settings, nested.
        rows: of metrics.jsonl, of all its folds.
        final: the last metrics in each fold, by name.
        outcome: how training ended in all folds, in a few words.
        succeeded: whether it ended well in all folds: else the run counts as failed.
        directions: which value of a metric, whatever its split, is the best.
    """

    number: int
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    final: Sequence[Mapping[str, float | None]]
    outcome: str
    succeeded: bool
    directions: Mapping[str, Direction]

    def history(self) -> list[dict[str, Any]]:
        """A row for each epoch, over the folds that were trained in it."""
        by_epoch: dict[int, list[Mapping[str, Any]]] = {}
        for row in self.rows:
            by_epoch.setdefault(row["epoch"], []).append(row)
        return [self._of_epoch(by_epoch[epoch]) for epoch in sorted(by_epoch)]

    def _of_epoch(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        own = {"step", "epoch", "configuration", "fold"}
        metrics = [{name: value for name, value in row.items() if name not in own} for row in rows]
        trained = {"folds": len(rows)} if len(self.final) > 1 else {}
        place = {"step": max(row["step"] for row in rows), "epoch": rows[0]["epoch"]}
        return {**place, **trained, **over_folds(metrics, len(self.final))}

    def summary(self) -> dict[str, Any]:
        """The outcome, and the last values of metrics that epochs have none of."""
        of_epochs = {name for row in self.rows for name in row}
        last = [{name: value for name, value in own.items() if name not in of_epochs} for own in self.final]
        return {"outcome": self.outcome, **over_folds(last, len(self.final))}

    def best(self) -> dict[str, Direction]:
        """Directions under the names that are logged."""
        if len(self.final) == 1:
            return dict(self.directions)
        return {f"{name}_mean": direction for name, direction in self.directions.items()}


def over_folds(metrics: Sequence[Mapping[str, float | None]], folds: int) -> dict[str, float | None]:
    """Mean and standard deviation (of the population) over folds; of a single fold, the values as they are.

    A metric that is undefined in a fold is undefined.

    >>> over_folds([{"val/loss": 1.0}, {"val/loss": 3.0}], folds=2)
    {'val/loss_mean': 2.0, 'val/loss_sd': 1.0}
    """
    if folds == 1:
        return dict(metrics[0])
    found: dict[str, float | None] = {}
    for name in dict.fromkeys(name for own in metrics for name in own):
        values = [value for own in metrics if (value := own.get(name)) is not None]
        whole = len(values) == len(metrics)
        found[f"{name}_mean"] = statistics.fmean(values) if whole else None
        found[f"{name}_sd"] = statistics.pstdev(values) if whole else None
    return found


def send_configurations(
    tracking: Tracking,
    directory: Run,
    configurations: Iterable[ConfigurationRun],
    provenance: Mapping[str, Any],
    resumed: bool,
) -> None:
    """Send a run for each configuration, after training has ended or was interrupted.

    Args:
        tracking: the settings; without a group, that of the run directory's name.
        directory: the run of all models.
        configurations: what to send.
        provenance: of the run.
        resumed: whether a part of it may have been sent before.
    """
    tracking = chosen(tracking)
    if tracking.mode == "disabled":
        return
    offline = False
    for configuration in configurations:
        if offline:  # a server that did not answer once is not waited for again
            tracking = replace(tracking, mode="offline")
        logger = _ConfigurationLogger(tracking, directory, configuration, provenance, resumed)
        offline |= logger.send()
    if offline:
        folder = os.path.relpath(directory.path / "wandb")
        print(f"wandb: offline; send these runs with: wandb sync {printable(folder)}/offline-run-*", flush=True)


class _ConfigurationLogger(WandbLogger):
    """The run of one configuration."""

    def __init__(
        self,
        tracking: Tracking,
        directory: Run,
        configuration: ConfigurationRun,
        provenance: Mapping[str, Any],
        resumed: bool,
    ) -> None:
        number = configuration.number
        study = tracking.id or re.sub(r"\W", "_", directory.path.name)
        own = replace(
            tracking,
            id=f"{study}-{number}",
            name=f"{tracking.name or 'configuration'}-{number}",
            group=tracking.group or directory.path.name,
        )
        config = {**flat_config(configuration.config), "configuration": number, "provenance": dict(provenance)}
        super().__init__(own, directory, config, configuration.best(), resumed)
        self._configuration = configuration

    def send(self) -> bool:
        """Send all of it; returns whether the run is offline."""
        configuration = self._configuration
        self.replay(configuration.history())
        run = self._run()
        if run is None:
            return False
        self._log_rows()
        offline = bool(run.offline)
        try:
            run.summary.update(configuration.summary())
        except Exception as error:
            warn("the summary was not sent", error)
        self.finish(0 if configuration.succeeded else 1)
        return offline

    @override
    def _announce(self, folder: str) -> None:
        """Nothing: all runs are announced together."""

    @override
    def _send_checkpoint(self, run: WandbRun) -> None:
        import wandb

        if not self._configuration.succeeded:
            return
        artifact = wandb.Artifact(f"{self._directory.recipe}-{run.id}", type="model")
        with tempfile.TemporaryDirectory() as folder:
            for fold in range(len(self._configuration.final)):
                file = Path(folder) / f"fold-{fold}.ckpt"
                self._directory.unstack(self._configuration.number, fold, file)
                artifact.add_file(str(file))
            run.log_artifact(artifact, aliases=["last"])
