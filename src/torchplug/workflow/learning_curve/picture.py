"""The picture of a learning curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from torchplug.workflow import pictures
from torchplug.workflow.learning_curve.result import LearningCurve


def draw(curve: LearningCurve, path: Path) -> None:
    """Write training and validation error, mean ± standard deviation, by the number of training rows.

    Raises:
        WriteError: if the file cannot be written.
    """
    figure, (axis,) = pictures.panels(1, width=6.0, height=4.0)
    table = curve.table
    rows = table["rows"].to_numpy()
    for split, color in (("train", "tab:blue"), ("val", "tab:orange")):
        name = f"{split} {curve.error_name}"
        spread = table[f"{name} sd"].fill_null(0.0).to_numpy()
        label = "training" if split == "train" else "validation"
        axis.errorbar(rows, table[name].to_numpy(), yerr=spread, color=color, marker="o", capsize=3, label=label)
    if curve.law is not None:
        along = np.geomspace(rows[0], 2 * rows[-1], 100)
        axis.plot(along, [curve.law.at(n) for n in along], color="gray", linestyle=":", label="fitted power law")
    axis.set_xscale("log")
    ticks = [*rows.tolist(), *([2 * int(rows[-1])] if curve.law is not None else [])]
    axis.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("training rows")
    axis.set_ylabel(curve.error_name)
    axis.legend(frameon=False)
    pictures.save(figure, path)
