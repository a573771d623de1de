"""Whether the tables are those of the fit: in others, rows that were trained on could be tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchplug.batch import SplitName
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.tables import describe


def changed_tables(content: Mapping[str, Any], data: TabularData, split: SplitName, *, named: bool) -> list[str]:
    """A note if the table that a split is drawn from is another than in the fit, and the command line names it.

    Args:
        content: the checkpoint's.
        data: prepared.
        split: what is to be trained or evaluated on.
        named: whether the command line names the table.

    Raises:
        ConfigurationError: if it is another one, and the command line does not name it.
    """
    fitted = content.get(TabularData.__qualname__)
    key = split if split in data.sources else "source"
    if not fitted or fitted["streamed"] != data.stream or key not in fitted["fingerprints"]:
        return []
    if fitted["fingerprints"][key] == data.fingerprints[key]:
        return []
    then, now = fitted["heights"][key], data.state_dict()["heights"][key]
    where = describe(data.sources[key])
    changed = f"{where} is not the table of the fit ({then} rows then, {now} now)"
    if split == "train":
        raise ConfigurationError(f"{changed}: training can only be continued on the same rows")
    danger = (
        f"its {split} split may hold rows that were trained on" if key == "source" else "figures are not comparable"
    )
    if not named:
        raise ConfigurationError(f"{changed}, and {danger}: pass --data.{key} to use it all the same")
    return [f"{changed}, and {danger}"]
