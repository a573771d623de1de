"""`torchplug.search`: hyper-parameters by grid, at random or by TPE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchplug import interruption
from torchplug.data.tabular import TabularData
from torchplug.fitting.environment import as_found
from torchplug.tracking.settings import Tracking
from torchplug.workflow.search.planning import Plan
from torchplug.workflow.search.pruning import Pruner
from torchplug.workflow.search.ranges import Searched
from torchplug.workflow.search.result import SearchResult
from torchplug.workflow.search.samplers import Sampler
from torchplug.workflow.search.searching import Searching
from torchplug.workflow.unfinished import Unfinished


def search(
    config: Mapping[str, Any],
    data: TabularData,
    *,
    grid: Searched | None = None,
    random: Searched | None = None,
    trials: int | None = None,
    sampler: Sampler | None = None,
    pruner: Pruner = "none",
    folds: int | None = None,
    jobs: int = 1,
    resume: str | Path | None = None,
    storage: str | None = None,
    study: str | None = None,
    metric: str = "val/loss",
    repeats: int = 3,
    trainer: Mapping[str, Any] | None = None,
    tracking: Mapping[str, Any] | Tracking | None = None,
    name: str = "search",
    root: str | Path = "runs",
    seed: int = 0,
) -> SearchResult:
    """Search for the settings with the best validation metric.

    Settings have the names of the command line's flags, such as `model.optimizer.lr`, `model.model.hidden`,
    `data.batch_size` or `trainer.max_epochs`; `model.regularizers.0.coefficient` is that of the first penalty. Names of
    components are settings too, and parameters of components are searched where the chosen component has them.

    Trials that agree in structure are trained together as one program (`fit_many`), the rest one by one; the metrics of
    each are those of its own `fit` from `seed`, up to rounding. A trial's value is that of the end of training. The run
    directory has trials.csv, best.yaml (for `fit --config best.yaml` of a recipe), pictures and the study. The test
    split is not used.

    Args:
        config: ComponentModule's parameters for what is not searched.
        data: the table.
        grid: lists of values by setting, or texts `name=a,b,c`.
        random: ranges by setting, `uniform(a,b)`, `log(a,b)` (uniform in the logarithm) and `int(a,b)` (whole numbers),
            all with both ends, or lists of values; or texts `name=log(a,b)`.
        trials: how many, at least 1; None: the whole grid, or 64 where there is more than a grid.
        sampler: `grid` tries every combination of values, in random order; `random` draws, and tries the combinations
            of what `grid` lists equally often; `tpe` learns from the trials before. None: `grid` if there is nothing
            but lists of `grid`, else `random`.
        pruner: `halving` ends all but the best third of the trials after 1, 3, 9, … epochs; `wilcoxon` trains, fold
            after fold, those that are not significantly worse than the best (p < 0.1).
        folds: k of `TabularData.folds`, and a trial's value is the mean over them; None: the data's own split.
        jobs: processes that share the trials, at least 1.
        resume: the directory of a search that was interrupted, or `last`: trials that have ended are not trained again.
            A second process may join a search that is under way.
        storage: the URL of a database with the study, such as `postgresql+psycopg://host/name`, for several machines;
            None: a file in the run directory.
        study: the name of the study in the storage; None: `name`.
        metric: what trials are compared by, of the validation split.
        repeats: how many further seeds the best trial is trained from at the end, 0 or more.
        trainer: parameters of Lightning's Trainer, such as `max_epochs`.
        tracking: W&B's settings (`Tracking`), such as `{"mode": "disabled"}`. A W&B run for each trial, in one group.
        name: the folder of the run's family, below `root`.
        root: the folder of all runs.
        seed: of what is drawn, of the folds, and of each network's start and dropout, 0 or more.

    Returns:
        the table of trials, the best settings, and the run directory.

    Raises:
        ConfigurationError: for settings that do not exist, or cannot be searched so.
        DataError: for a table that cannot be used.
        CheckpointError: for a study of other settings.
        KeyboardInterrupt: after Ctrl-C; what is done is kept, and `resume` goes on.

    Example:
        >>> import torchplug
        >>> from torchplug import TabularData, use
        >>> config = {"model": use("linear"), "loss": "mse", "optimizer": "adam"}
        >>> options = {"trainer": {"max_epochs": 20}, "tracking": {"mode": "disabled"}}
        >>> grid = {"model.optimizer.lr": [0.001, 0.01, 0.1]}
        >>> found = torchplug.search(config, TabularData("diabetes"), grid=grid, **options)  # doctest: +SKIP
        >>> found.best, found.best_value  # doctest: +SKIP
    """
    plan = Plan(
        config=config,
        data=data,
        grid=grid,
        random=random,
        trials=trials,
        sampler=sampler,
        pruner=pruner,
        folds=folds,
        jobs=jobs,
        resume=resume,
        storage=storage,
        study=study,
        metric=metric,
        repeats=repeats,
        trainer=trainer or {},
        tracking=Tracking.of(tracking),
        name=name,
        root=root,
        seed=seed,
    )
    try:
        with interruption.handled_within(), as_found():
            return Searching(plan).run()
    except Unfinished as stop:
        raise stop.told("the search") from stop
