"""The command `predict`: a checkpoint's predictions for a table, as a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars

from torchplug.data.notes import filled_in, unknown_categories
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, WriteError
from torchplug.fitting.trainer import build_trainer
from torchplug.module import ComponentModule
from torchplug.preprocessing import Substitutions
from torchplug.recipe.output import say_notes
from torchplug.tables import describe, enumerate_names, read
from torchplug.terminal import printable
from torchplug.tracking.ensemble import Ensemble
from torchplug.tracking.whole_files import whole_file

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def predict(command: Command, module: ComponentModule | Ensemble, data: TabularData) -> int:
    """Write predictions; returns the exit status.

    Raises:
        TorchplugError: for input that is refused, or a file that cannot be written.
    """
    assert command.origin is not None
    trainer = build_trainer(command.trainer())
    if trainer.world_size > 1:
        raise ConfigurationError("predict runs in one process: leave --trainer.devices at 1")
    folder = command.origin.run.path if command.origin.run is not None else Path()
    output = Path(command.settings.others["output"] or folder / "predictions.csv")
    if output.suffix not in (".csv", ".parquet"):
        raise ConfigurationError(f"--output {output}: predictions are written as .csv or .parquet")
    if not output.parent.is_dir():
        raise ConfigurationError(f"--output {output}: there is no directory {output.parent}")
    interval = command.settings.others["interval"]
    if interval is not None:
        module.intervals(interval)  # which may be refused, before the table is read
    ensemble = module if isinstance(module, Ensemble) else Ensemble([module], module.calibration)
    frame = read(data.sources["source"], data.form, ensemble.types)
    where = describe(data.sources["source"])
    table = ensemble.predict(frame, where, interval, spread=command.settings.others["spread"])
    say_notes(_notes(ensemble, frame, where))
    names = polars.DataFrame({"row": range(1, frame.height + 1)})  # as messages count them
    if (column := command.settings.others["id"]) is not None:
        if column not in frame.columns:
            there = enumerate_names(frame.columns)
            raise ConfigurationError(f"--id {column}: the input has no such column, it has {there}")
        if column in (taken := [*names.columns, *table.columns]):
            there = enumerate_names(taken)
            raise ConfigurationError(f"--id {column}: the output has columns {there}; repeat another one")
        names = names.with_columns(frame[column])
    _write_table(polars.concat([names, table], how="horizontal"), output)
    print(f"{frame.height} predictions: {printable(str(output))}")
    return 0


def _notes(ensemble: Ensemble, frame: polars.DataFrame, where: str) -> list[str]:
    """Which values of a table were encoded as others, by any member."""
    notes: dict[str, None] = {}
    for member in ensemble.members:
        assert member.preprocessing is not None, "a model that predicts has preprocessing"
        found = Substitutions()
        member.preprocessing.refuse(frame, where, np.arange(frame.height), [found])
        notes |= dict.fromkeys(filled_in(found, member.preprocessing))
        notes |= dict.fromkeys(unknown_categories(found, member.preprocessing))
    return list(notes)


def _write_table(table: polars.DataFrame, output: Path) -> None:
    """Write whole or not at all.

    Raises:
        ConfigurationError: if the file cannot be written.
    """
    written = io.BytesIO()
    if output.suffix == ".csv":
        table.write_csv(written)
    else:
        table.write_parquet(written)
    try:
        with whole_file(output) as file:
            file.write(written.getbuffer())
    except WriteError as error:
        raise ConfigurationError(f"--output {error}; or name a file elsewhere") from error
