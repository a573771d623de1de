"""`fit_many`: configurations × folds, those of one structure as one program and the others one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.progress import Progress

from torchplug import interruption
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fit_result import FitResult, LateMetrics
from torchplug.many.alone import fit_alone
from torchplug.many.configurations import Configuration, Configurations
from torchplug.many.evaluation import validation_metrics
from torchplug.many.grouping import Grouper, Share
from torchplug.many.members import components_of
from torchplug.many.program import Program, Trained
from torchplug.many.settings import TrainerSettings
from torchplug.module import ComponentModule
from torchplug.registry.component import Outcome
from torchplug.training.cost_model import seconds_of_work
from torchplug.training.threads import ThreadLimit

Results = dict[tuple[int, int], FitResult]
"""By configuration and fold."""


def fit_many(
    configs: Sequence[Mapping[str, Any]],
    data: TabularData,
    folds: Sequence[tuple[Any, Any]] | None = None,
    trainer: Mapping[str, Any] | None = None,
) -> list[FitResult]:
    r"""Train every configuration on every fold: many small models of one structure in the time of a few.

    Each model is the one that its own `ComponentModule` and Trainer would give from its seed, batch by batch, up to
    rounding. Models that differ in numbers alone (learning rates and other settings of the optimizer, λ, rates of
    dropout, seeds, schedules, δ and the like of a loss) are trained together. What cannot be is trained one by one, and
    a note says how many models ran in how many programs.

    A model whose gradient is not finite stops with the outcome `stalled`, at its last good parameters, and the others
    go on. Ctrl-C ends training after a step: results are those of the models as they are then.

    Args:
        configs: each a mapping of ComponentModule's parameters, and `seed` (by default 0) for the network's start and
            for dropout.
        data: the table. Its batch size, seed and preprocessing hold in every fold.
        folds: pairs of row numbers that train and validate, counted from 0 in the source; None: the data's own split.
        trainer: settings of Lightning's Trainer, such as `max_epochs`, `precision`, `gradient_clip_val`, and
            EarlyStopping among `callbacks`, which watches each model for itself.

    Returns:
        a result for each configuration and fold, those of the first configuration first: of F folds, result c·F + f
        is that of configuration c in fold f. A module is built when it is first asked for, and so are metrics other
        than `train/epoch_loss` and `val/loss` computed.

    Raises:
        ConfigurationError: for no configuration, or one that cannot be trained.
        DataError: for data or folds that cannot be used.

    Example:
        >>> from torchplug import TabularData, fit_many, use
        >>> configs = [{"model": use("linear"), "optimizer": use("adam", lr=lr)} for lr in (0.01, 0.1)]
        >>> settings = {"max_epochs": 2, "accelerator": "cpu"}
        >>> results = fit_many(configs, TabularData("diabetes"), trainer=settings)
        >>> results[1].metrics["val/loss"] < results[0].metrics["val/loss"]
        True
    """
    if not configs:
        raise ConfigurationError("there is no configuration to fit: give at least one")
    if folds is not None and not folds:
        raise ConfigurationError("there is no fold: give at least one, or None for the data's own split")
    settings = TrainerSettings(trainer or {})
    reader = Configurations()
    configurations = [reader.read(config) for config in configs]
    tables = [data.copied()] if folds is None else [data.fold(*fold) for fold in folds]
    grouping = Grouper(tables, settings).group(configurations)
    rank_zero_info(grouping.note())
    results: Results = {}
    models = len(configurations) * len(tables)
    with _interruptible(), _progress(models, settings.shows_progress) as advance:
        for share in grouping.shares:
            _fit_share(share, configurations, settings, results, advance)
        for number, fold in grouping.alone:
            if not interruption.requested():
                _defer()  # the fit before has ended that
                results[number, fold] = fit_alone(configurations[number], tables[fold].copied(), settings.keywords)
            advance(1.0)
    return [
        results.get((number, fold)) or _not_begun(configuration)
        for number, configuration in enumerate(configurations)
        for fold in range(len(tables))
    ]


def _fit_share(
    share: Share,
    configurations: Sequence[Configuration],
    settings: TrainerSettings,
    results: Results,
    advance: Callable[[float], None],
) -> None:
    """Train the models of one program."""
    if interruption.requested():
        return
    members, plan = share.members, settings.plan()
    batches = [data.batches("train") for data in members.folds]
    part = len(members) / (plan.epochs * max(batches))
    rows = members.folds[0].batch_size
    work = seconds_of_work(members.network, rows if isinstance(rows, int) else members.folds[0].sizes["train"])
    with ThreadLimit(len(members) * work):
        trained = Program(members, replace(plan, advanced=partial(advance, part))).fit()
    for position, fold in enumerate(share.folds):
        for m, number in enumerate(share.configurations):
            model = trained[position * len(share.configurations) + m]
            results[number, fold] = _result(configurations[number], members.folds[position], model)


def _result(configuration: Configuration, data: TabularData, trained: Trained) -> FitResult:
    def build() -> ComponentModule:
        module = configuration.module()
        with torch.random.fork_rng(devices=[]):
            module.configure(data)
        network = module.network
        assert network is not None, "it has adopted data"
        network.to(next(iter(trained.state.values())).dtype)
        network.load_state_dict(trained.state)
        return module

    if not trained.metrics:
        return FitResult({}, trained.outcome, build)
    result: FitResult
    names = tuple(components_of(configuration).metric_choice.watchable(bool(data.sizes["validation"])))
    metrics = LateMetrics(trained.metrics, names, lambda: validation_metrics(result.module, data))
    result = FitResult(metrics, trained.outcome, build)
    return result


def _not_begun(configuration: Configuration) -> FitResult:
    outcome = Outcome("limit", "interrupted before its first step", "fit again to train it")
    return FitResult({}, outcome, configuration.module)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end training at a boundary between steps."""
    with interruption.handled("fit_many", lambda: True):
        _defer()
        try:
            yield
        finally:
            interruption.no_longer_defer()


def _defer() -> None:
    if interruption.is_handled():
        interruption.defer(alone=True)


@contextmanager
def _progress(models: int, shown: bool) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal; gives what moves it on by a number of models."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not (shown and console.is_terminal), transient=True) as bar:
        task = bar.add_task(f"{models} models", total=models)
        yield lambda part: bar.advance(task, part)
