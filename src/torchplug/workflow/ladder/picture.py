"""The losses of a ladder's rungs."""

from __future__ import annotations

from pathlib import Path

from torchplug.workflow import pictures
from torchplug.workflow.ladder.result import Ladder
from torchplug.workflow.ladder.trial import LOSS


def draw(ladder: Ladder, path: Path) -> None:
    """Write a panel for each rung that was trained: the loss of each step's batch.

    Raises:
        WriteError: if the file cannot be written.
    """
    rungs = [rung for rung in ladder.rungs if rung.losses]
    columns = min(3, len(rungs))
    figure, axes = pictures.panels(columns, -(-len(rungs) // columns), width=4.2, height=3.0)
    for axis, rung in zip(axes, rungs, strict=False):
        color = "tab:green" if rung.passed else "tab:red"
        axis.plot(range(1, len(rung.losses) + 1), rung.losses, color=color, linewidth=0.8)
        if all(loss > 0 for loss in rung.losses):
            axis.set_yscale("log")
        if ladder.score_name == "accuracy" and rung.name in ("one row", "a handful", "more", "all"):
            axis.axhline(LOSS, color="gray", linestyle=":", linewidth=1)
        axis.set_title(f"{rung.name}, n = {rung.rows}: {'pass' if rung.passed else 'FAIL'}", fontsize="medium")
        axis.set_xlabel("step")
        axis.set_ylabel("loss")
    for axis in axes[len(rungs) :]:
        axis.set_visible(False)
    pictures.save(figure, path)
