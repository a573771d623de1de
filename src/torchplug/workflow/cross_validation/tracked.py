"""Cross-validation in Weights & Biases: a run for each fold and one that sums up, in one group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchplug.registry.component import Direction
from torchplug.tracking.flat_config import flat_config
from torchplug.tracking.settings import Tracking
from torchplug.tracking.wandb_group import GroupedRun, send_group
from torchplug.workflow.cross_validation.result import CrossValidation


def send(found: CrossValidation, tracking: Tracking, directions: Mapping[str, Direction], resumed: bool) -> None:
    """Send all of a cross-validation, if tracking is not disabled.

    Args:
        found: what was found.
        tracking: W&B's settings; without a group, that of the run directory's name.
        directions: which value of a metric is the best.
        resumed: whether a part of it may have been sent before.
    """
    send_group(tracking, found.run, _runs(found, tracking, directions), found.run.provenance, resumed)


def _runs(found: CrossValidation, tracking: Tracking, directions: Mapping[str, Direction]) -> Iterator[GroupedRun]:
    config = flat_config({name: value for name, value in found.run.config.items() if name not in _LEFT_OUT})
    prefix = f"{tracking.name}-" if tracking.name else ""
    rows = found.run.metrics.to_dicts()
    for number, result in enumerate(found.results):
        yield GroupedRun(
            label=f"fold-{number}",
            name=f"{prefix}fold-{number}",
            config={**config, "fold": number},
            rows=[_row(row) for row in rows if row["fold"] == number],
            summary={"outcome": result.outcome.name, **_finite({n: v[number] for n, v in found.folds.items()}, "val")},
            directions=directions,
            succeeded=number not in found.stalled,
        )
    lows, highs = ({name: ends[place] for name, ends in found.interval.items()} for place in (0, 1))
    yield GroupedRun(
        label="summary",
        name=f"{prefix}summary",
        config={**config, "folds": len(found.results)},
        rows=[],
        summary={**_finite(found.mean, "mean"), **_finite(lows, "low"), **_finite(highs, "high")},
        succeeded=not found.stalled,
        write_checkpoints=lambda folder: _written(found, folder),
    )


_LEFT_OUT = ("configurations", "folds")


def _written(found: CrossValidation, folder: Path) -> list[Path]:
    found.ensemble.save_checkpoint(folder / found.run.ensemble.name)
    return [folder / found.run.ensemble.name]


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in row.items() if value is not None or name == "epoch"}
    return {name: value for name, value in own.items() if name not in ("configuration", "fold")}


def _finite(values: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items() if value == value}
