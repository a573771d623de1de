"""Weights & Biases for a search: a run for each trial, in one group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torchplug.registry.component import Direction
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.wandb_group import ConfigurationRun, send_configurations
from torchplug.workflow.search.study import Finished


def send(
    trials: Sequence[Finished],
    configs: Sequence[Mapping[str, Any]],
    run: Run,
    tracking: Tracking,
    directions: Mapping[str, Direction],
    resumed: bool,
) -> None:
    """Send the trials that this run directory has trained.

    Args:
        trials: those that have ended.
        configs: the settings of each, nested.
        run: the run directory.
        tracking: the settings.
        directions: which value of a metric, whatever its split, is the best.
        resumed: whether a part may have been sent before.
    """
    named = replace(tracking, name=tracking.name or "trial")
    send_configurations(named, run, _runs(trials, configs, run, directions), run.provenance, resumed)


def _runs(
    trials: Sequence[Finished], configs: Sequence[Mapping[str, Any]], run: Run, directions: Mapping[str, Direction]
) -> Iterator[ConfigurationRun]:
    rows: dict[int, list[Mapping[str, Any]]] = {}
    if run.metrics_file.is_file():
        for row in run.metrics.to_dicts():
            rows.setdefault(row["trial"], []).append({name: own for name, own in row.items() if name != "trial"})
    for trial, config in zip(trials, configs, strict=True):
        if not trial.own:
            continue
        metrics = trial.result.metrics
        folds = max(map(len, metrics.values()))
        final = [{name: values[fold] for name, values in metrics.items()} for fold in range(folds)]
        yield ConfigurationRun(
            number=trial.number,
            config=config,
            rows=rows.get(trial.number, []),
            final=final,
            outcome=f"{trial.result.state}: {trial.result.reason}",
            succeeded=trial.result.state != "diverged",
            directions=directions,
        )
