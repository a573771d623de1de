"""Weights & Biases for many models: runs of one group, such as one for each configuration."""

from __future__ import annotations

import math
import os
import re
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
        values = [value for own in metrics if (value := own.get(name)) is not None and math.isfinite(value)]
        whole = len(values) == len(metrics)
        found[f"{name}_mean"] = statistics.fmean(values) if whole else None
        found[f"{name}_sd"] = statistics.pstdev(values) if whole else None
    return found


@dataclass(frozen=True)
class GroupedRun:
    """What Weights & Biases is told of one run of a group.

    Args:
        label: distinguishes it within the group: the end of its id.
        name: its name.
        config: its settings, flat.
        rows: its history, with step and epoch.
        summary: its final values.
        directions: which value of a metric, whatever its split, is the best.
        succeeded: whether it ended well: else it counts as failed.
        write_checkpoints: writes into a folder the checkpoints to be sent where that is asked for; returns them.
    """

    label: str
    name: str
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    directions: Mapping[str, Direction] = field(default_factory=dict)
    succeeded: bool = True
    write_checkpoints: Callable[[Path], Sequence[Path]] = lambda folder: ()


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

    def grouped(configuration: ConfigurationRun) -> GroupedRun:
        number = configuration.number

        def write_checkpoints(folder: Path) -> list[Path]:
            files = [folder / f"fold-{fold}.ckpt" for fold in range(len(configuration.final))]
            for fold, file in enumerate(files):
                directory.unstack(number, fold, file)
            return files

        return GroupedRun(
            label=str(number),
            name=f"{tracking.name or 'configuration'}-{number}",
            config={**flat_config(configuration.config), "configuration": number},
            rows=configuration.history(),
            summary=configuration.summary(),
            directions=configuration.best(),
            succeeded=configuration.succeeded,
            write_checkpoints=write_checkpoints,
        )

    # one at a time: a configuration's metrics are computed when they are asked for
    send_group(tracking, directory, map(grouped, configurations), provenance, resumed)


def send_group(
    tracking: Tracking, directory: Run, runs: Iterable[GroupedRun], provenance: Mapping[str, Any], resumed: bool
) -> None:
    """Send runs of one group, if tracking is not disabled; the runs are asked for one by one.

    Args:
        tracking: the settings; without a group, that of the run directory's name.
        directory: the run directory of all.
        runs: what to send.
        provenance: of the run directory.
        resumed: whether a part of it may have been sent before.
    """
    tracking = chosen(tracking)
    if tracking.mode == "disabled":
        return
    offline = False
    for run in runs:
        if offline:  # a server that did not answer once is not waited for again
            tracking = replace(tracking, mode="offline")
        logger = _GroupLogger(tracking, directory, run, provenance, resumed)
        offline |= logger.send()
    if offline:
        folder = os.path.relpath(directory.path / "wandb")
        print(f"wandb: offline; send these runs with: wandb sync {printable(folder)}/offline-run-*", flush=True)


class _GroupLogger(WandbLogger):
    """One run of a group."""

    def __init__(
        self, tracking: Tracking, directory: Run, run: GroupedRun, provenance: Mapping[str, Any], resumed: bool
    ) -> None:
        study = tracking.id or re.sub(r"\W", "_", directory.path.name)
        group = tracking.group or directory.path.name
        own = replace(tracking, id=f"{study}-{run.label}", name=run.name, group=group)
        super().__init__(own, directory, {**run.config, "provenance": dict(provenance)}, run.directions, resumed)
        self._own = run

    def send(self) -> bool:
        """Send all of it; returns whether the run is offline."""
        self.replay(self._own.rows)
        run = self._run()
        if run is None:
            return False
        self._log_rows()
        offline = bool(run.offline)
        try:
            run.summary.update(dict(self._own.summary))
        except Exception as error:
            warn("the summary was not sent", error)
        self.finish(0 if self._own.succeeded else 1)
        return offline

    @override
    def _announce(self, folder: str) -> None:
        """Nothing: all runs are announced together."""

    @override
    def _send_checkpoint(self, run: WandbRun) -> None:
        import wandb

        if not self._own.succeeded:
            return
        with tempfile.TemporaryDirectory() as folder:
            files = self._own.write_checkpoints(Path(folder))
            if not files:
                return
            artifact = wandb.Artifact(f"{self._directory.recipe}-{run.id}", type="model")
            for file in files:
                artifact.add_file(str(file))
            run.log_artifact(artifact, aliases=["last"])
