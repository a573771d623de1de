"""The subcommands of a recipe, and the settings outside of groups that each takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torchplug.data.tabular import TabularData
    from torchplug.module import ComponentModule
    from torchplug.recipe.command import Command


@dataclass(frozen=True)
class Option:
    """A setting outside of groups.

    Args:
        annotation: its type.
        summary: what it is, for `--help`.
        default: its value unless it is given.
        repeats: whether the flag may be given several times, each adding to a list.
    """

    annotation: Any
    summary: str
    default: Any = None
    repeats: bool = False


@dataclass(frozen=True)
class Subcommand:
    """A subcommand.

    Args:
        summary: what it does, for `--help`.
        function: carries it out: `module:name`, imported on use.
        options: its settings outside of groups, beside `seed_everything`.
        starts_from: `settings` for new models, `checkpoint` for a trained one.
        words: the option that collects words without a flag, such as run directories; None: words are refused.
        reads_table: whether settings may follow from the table.
    """

    summary: str
    function: str
    options: Mapping[str, Option] = field(default_factory=dict)
    starts_from: Literal["settings", "checkpoint"] = "settings"
    words: str | None = None
    reads_table: bool = True

    def carry_out(self, command: Command, module: ComponentModule, data: TabularData) -> int:
        """Do what was asked for; returns the exit status.

        Raises:
            TorchplugError: for input that is refused, or training that had to stop.
        """
        name, _, attribute = self.function.partition(":")
        status: int = getattr(import_module(name), attribute)(command, module, data)
        return status


_SEED = Option(int, "Seed of all generators.")
_RESUME = Option(str | None, "Resume from best or last of the newest run, a run directory, or a file.")
_USE = Option(str | None, "Use best or last of the newest run, a run directory, or a file.", "best")

SUBCOMMANDS: Mapping[str, Subcommand] = {
    "fit": Subcommand(
        "Train on the training split and report on the validation split.",
        "torchplug.recipe.fitting:fit",
        {"ckpt_path": _RESUME},
    ),
    "validate": Subcommand(
        "Evaluate a checkpoint on the validation split.",
        "torchplug.recipe.evaluating:validate",
        {"ckpt_path": _USE},
        "checkpoint",
    ),
    "test": Subcommand(
        "Evaluate a checkpoint on the test split; every opening of it is recorded.",
        "torchplug.recipe.evaluating:test",
        {"ckpt_path": _USE},
        "checkpoint",
    ),
    "predict": Subcommand(
        "Write a checkpoint's predictions for a table.",
        "torchplug.recipe.predicting:predict",
        {
            "ckpt_path": _USE,
            "output": Option(
                str | None, "File to write, .csv or .parquet; its column `row` counts the input's rows from 1."
            ),
            "id": Option(str | None, "Column of the input to repeat in the output."),
        },
        "checkpoint",
    ),
    "compare": Subcommand(
        "Show how the settings and metrics of runs differ.",
        "torchplug.recipe.comparing:compare",
        {
            "runs": Option(list[str], "Run directories, or last for the newest run, given without a flag.", ()),
            "output": Option(str, "The picture of metrics by epoch, a PNG file.", "comparison.png"),
        },
        words="runs",
        reads_table=False,
    ),
    "diagnose": Subcommand(
        "Say why a fit is as good or as bad as it is, and what to change.",
        "torchplug.recipe.diagnosing:diagnose",
        {
            "run": Option(list[str], "A run directory, or last for the newest run, given without a flag.", ()),
            "target": Option(
                float | None, "The error that is wanted: the share of wrong labels, or the rmse in the target's units."
            ),
            "ignore": Option(list[str], "A code to leave out, such as TPD003; may be given several times.", (), True),
            "iterations": Option(int, "Iterations of L-BFGS for models that are not linear; 0: none.", 100),
        },
        words="run",
        reads_table=False,
    ),
    "ladder": Subcommand(
        "Fit one row, a handful, more and all; a rung that fails names the likely cause (exit status 4).",
        "torchplug.recipe.climbing:ladder",
        {"steps": Option(int, "Most optimizer steps of a rung; on all rows at least 30 epochs.", 2000)},
    ),
    "learning_curve": Subcommand(
        "Train on growing parts of the training split, and estimate what more rows would bring.",
        "torchplug.recipe.growing:learning_curve",
        {
            "fractions": Option(str | list[float], "Shares of the training split: 0.1,0.5,1.", (0.1, 0.2, 0.5, 1.0)),
            "repeats": Option(int, "Random parts of each size.", 3),
        },
    ),
}


def options_of(subcommand: str) -> dict[str, Option]:
    """The settings outside of groups that a subcommand takes."""
    return {"seed_everything": _SEED, **SUBCOMMANDS[subcommand].options}
