"""The configuration of a fit from Python, in the form of a recipe's configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torchplug.data.tabular import TabularData
from torchplug.module import ComponentModule
from torchplug.tracking.settings import Tracking


def written_config(
    module: ComponentModule, data: TabularData, trainer: Mapping[str, Any], tracking: Tracking, seed: int | None
) -> dict[str, Any]:
    """The settings of a fit as plain types, as `--config` of a recipe reads them.

    What has no plain form is described: callbacks, networks of your own and tables in memory.

    Args:
        module: with its components.
        data: the table.
        trainer: parameters of Lightning's Trainer.
        tracking: W&B's settings.
        seed: the run's.
    """
    return {
        "seed_everything": seed,
        "model": plain_settings(dict(module.hparams)),
        "data": data_settings(data),
        "trainer": {key: plain_settings(value) for key, value in trainer.items()},
        "tracking": asdict(tracking),
    }


def data_settings(data: TabularData) -> dict[str, Any]:
    """The settings of a table, as plain types."""
    tables = {key: table for key, table in data.sources.items() if not isinstance(table, str)}
    in_memory = {key: f"<{type(table).__name__} in memory>" for key, table in tables.items()}
    return {key: plain_settings(value) for key, value in data.hparams.items()} | in_memory


def plain_settings(value: Any) -> Any:
    """A setting in the form of configuration files; what has none is described by its type."""
    if isinstance(value, Mapping) and set(value) == {"name", "parameters"}:
        return {"class_path": value["name"], "init_args": plain_settings(value["parameters"])}
    if isinstance(value, Mapping):
        return {str(key): plain_settings(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_settings(item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else f"<{type(value).__name__}>"
