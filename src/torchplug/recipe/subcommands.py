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
    from torchplug.tracking.ensemble import Ensemble


@dataclass(frozen=True)
class Option:
    """A setting outside of groups.

    Args:
        annotation: its type.
        summary: what it is, for `--help`.
        default: its value unless it is given.
        repeats: whether its flag may be given several times, each adding to a list.
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
        options: its settings outside of groups, beside `seed_everything` and `plugins_lock`.
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

    def carry_out(self, command: Command, module: ComponentModule | Ensemble, data: TabularData) -> int:
        """Do what was asked for; returns the exit status.

        Raises:
            TorchplugError: for input that is refused, or training that had to stop.
        """
        name, _, attribute = self.function.partition(":")
        status: int = getattr(import_module(name), attribute)(command, module, data)
        return status


_SEED = Option(int, "Seed of all generators.")
_LOCK = Option(str | None, "Refuse plugins that differ from this file of `torchplug lock`.")
_RESUME = Option(str | None, "Resume from best or last of the newest run, a run directory, or a file.")
_USE = Option(str | None, "Use best or last of the newest run, a run directory, or a file.", "best")
_GO_ON = Option(str | None, "Go on with an interrupted run: its directory, or last for the newest.")

SUBCOMMANDS: Mapping[str, Subcommand] = {
    "fit": Subcommand(
        "Train on the training split and report on the validation split.",
        "torchplug.recipe.fitting:fit",
        {
            "ckpt_path": _RESUME,
            "refit": Option(
                bool, "Train again for the best number of epochs, on training and validation rows together.", False
            ),
            "ensemble": Option(int | None, "Train so many models together, which predict as one; at least 2."),
            "ensemble_by": Option(
                Literal["seed", "bootstrap", "folds"], "What they differ in: seed, sample of the rows, or fold.", "seed"
            ),
        },
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
            "interval": Option(
                float | None,
                "Share of rows, such as 0.9, that an interval around each number is to cover: two more columns.",
            ),
            "spread": Option(bool, "Add the standard deviation over an ensemble's members to each number.", False),
        },
        "checkpoint",
    ),
    "ladder": Subcommand(
        "Fit one row, a handful, more and all; a rung that fails names the likely cause (exit status 4).",
        "torchplug.recipe.ladder:ladder",
        {"steps": Option(int, "Most optimizer steps of a rung; on all rows at least 30 epochs.", 2000)},
    ),
    "tune_lr": Subcommand(
        "Raise the learning rate on a copy of the model, and suggest one.",
        "torchplug.recipe.tuning:tune_lr",
        {
            "lowest": Option(float, "The first learning rate.", 1e-6),
            "highest": Option(float, "The last learning rate.", 10.0),
            "steps": Option(int, "Optimizer steps from the first to the last.", 100),
        },
    ),
    "tune_batch_size": Subcommand(
        "Train briefly with growing batches: samples per second, memory and gradient noise.",
        "torchplug.recipe.tuning:tune_batch_size",
        {
            "sizes": Option(list[int] | None, "Batch sizes to try; by default 16, 32, … and the training split."),
            "seconds": Option(float, "How long each is timed.", 1.0),
        },
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
    "learning_curve": Subcommand(
        "Train on growing parts of the training split, and estimate what more rows would bring.",
        "torchplug.recipe.learning_curve:learning_curve",
        {
            "fractions": Option(str | list[float], "Shares of the training split: 0.1,0.5,1.", (0.1, 0.2, 0.5, 1.0)),
            "repeats": Option(int, "Random parts of each size.", 3),
            "resume": _GO_ON,
        },
    ),
    "cross_validate": Subcommand(
        "Train on all but one fold and evaluate on that one, for each fold in turn.",
        "torchplug.recipe.cross_validating:cross_validate",
        {
            "folds": Option(int, "Number of folds, of the rows that are not tested.", 5),
            "repeats": Option(int, "How many times the rows are divided into folds.", 1),
            "resume": _GO_ON,
        },
    ),
    "search": Subcommand(
        "Search for the settings with the best validation metric.",
        "torchplug.recipe.searching:search",
        {
            "grid": Option(list[str] | None, "A setting and its values, name=a,b,c; may be repeated.", repeats=True),
            "random": Option(
                list[str] | None,
                "A setting and its range, name=log(a,b), uniform(a,b) or int(a,b), or its values; may be repeated.",
                repeats=True,
            ),
            "trials": Option(int | None, "How many trials; null: the whole grid, or 64 where there are ranges."),
            "sampler": Option(
                Literal["grid", "random", "tpe"] | None, "How trials are chosen; null: grid where there are no ranges."
            ),
            "pruner": Option(
                Literal["none", "halving", "wilcoxon"],
                "What ends bad trials early: successive halving by epochs, or Wilcoxon's test over folds.",
                "none",
            ),
            "folds": Option(int | None, "Cross-validate each trial in so many folds; null: the validation split."),
            "jobs": Option(int, "Processes that share the trials.", 1),
            "resume": Option(str | None, "Go on with the search in a run directory, or last; join it while it runs."),
            "storage": Option(str | None, "URL of a database with the study; null: a file in the run directory."),
            "study": Option(str | None, "The study's name in the storage; null: by the recipe."),
            "metric": Option(str, "What trials are compared by.", "val/loss"),
            "repeats": Option(int, "Further seeds from which the best trial is trained at the end.", 3),
            "export_wandb": Option(str | None, "Write a sweep file for `wandb sweep` instead of searching."),
        },
    ),
    "path": Subcommand(
        "Fit along a penalty's λ, from large to small, and choose λ by cross-validation.",
        "torchplug.recipe.regularization_path:path",
        {
            "coefficient": Option(str | list[float], "Values of λ: log(1e-6,1), linear(0,1) or a list.", "log(1e-6,1)"),
            "points": Option(int, "Number of values of a range.", 100),
            "folds": Option(
                int | Literal["loo"], "Number of folds; loo leaves out each row once (ridge regression).", 5
            ),
            "regularizer": Option(int | None, "Which penalty varies, counted from 0; needed if there are several."),
            "metric": Option(str, "What chooses λ: loss, or a metric such as rmse or accuracy.", "loss"),
            "resume": Option(str | None, "Go on with an interrupted run: its directory, or last for the newest."),
        },
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
}


def options_of(subcommand: str) -> dict[str, Option]:
    """The settings outside of groups that a subcommand takes."""
    return {"seed_everything": _SEED, "plugins_lock": _LOCK, **SUBCOMMANDS[subcommand].options}
