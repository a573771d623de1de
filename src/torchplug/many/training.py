"""Training of many models that are grouped: programs first, then the others one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from torchplug import interruption
from torchplug.data.tabular import TabularData
from torchplug.many.alone import Lone
from torchplug.many.config import Epoch
from torchplug.many.configurations import Configuration
from torchplug.many.grouping import Grouping, Share
from torchplug.many.program import Program
from torchplug.many.record import Model, Record
from torchplug.many.result import Fitted, not_begun, of_program
from torchplug.many.settings import TrainerSettings
from torchplug.training.cost_model import seconds_of_work
from torchplug.training.threads import ThreadLimit

Watch = Callable[[int, Sequence[Model], Mapping[str, Tensor]], Tensor]
"""Called after an epoch with its number, k models that trained in it, as (configuration, fold), and their metrics, (k,)
by name; returns which of them go on, (k,) bool: the others are pruned."""


def keep_all(epoch: int, models: Sequence[Model], metrics: Mapping[str, Tensor]) -> Tensor:
    """Let all models go on."""
    return torch.ones(len(models), dtype=torch.bool)


@dataclass(frozen=True)
class ManyTraining:
    """Models that are ready to be trained: everything is checked.

    Args:
        configurations: all of them.
        folds: data modules, one per fold; nothing of them is prepared.
        grouping: which models share a program.
        settings: of the Trainer.
        record: what is kept of the training, and what it goes on from.
        advance: is called with a number of models as training goes on.
        watch: sees each epoch's metrics, and may end models.
        epoch: whose parameters models end with.
    """

    configurations: Sequence[Configuration]
    folds: Sequence[TabularData]
    grouping: Grouping
    settings: TrainerSettings
    record: Record
    advance: Callable[[float], None] = lambda models: None
    watch: Watch = keep_all
    epoch: Epoch = "last"

    def run(self) -> dict[Model, Fitted]:
        """Train until all models have ended, or an interruption is asked for."""
        fitted: dict[Model, Fitted] = {}
        with _interruptible():
            for index, share in enumerate(self.grouping.shares):
                if not interruption.requested():
                    fitted |= self._train_share(index, share)
            for model in self.grouping.alone:
                if not interruption.requested():
                    _defer()  # the fit before has ended that
                    fitted[model] = self._train_alone(model)
                self.advance(1.0)
        models = [(number, fold) for number in range(len(self.configurations)) for fold in range(len(self.folds))]
        return {model: fitted.get(model) or self._not_begun(model) for model in models}

    def _not_begun(self, model: Model) -> Fitted:
        return not_begun(self.configurations[model[0]], self.record.remedy, self.record.run)

    def _train_share(self, index: int, share: Share) -> dict[Model, Fitted]:
        """Train the models of one program."""
        members, plan = share.members, self.settings.plan()
        steps = [data.batches("train") for data in members.folds]
        models = [(number, fold) for fold in share.folds for number in share.configurations]
        each = len(share.configurations)

        def watch(epoch: int, going: Sequence[int], metrics: Mapping[str, Tensor]) -> Tensor:
            named = [models[model] for model in going]
            self.record.log(epoch, named, [(epoch + 1) * steps[model // each] for model in going], metrics)
            return self.watch(epoch, named, metrics)

        part = len(members) / (plan.epochs * max(steps))
        plan = replace(
            plan,
            keeps_best=self.epoch == "best",
            advanced=partial(self.advance, part),
            save=partial(self.record.save, index),
            watch=watch,
            remedy=self.record.remedy,
        )
        rows = members.folds[0].batch_size
        work = seconds_of_work(members.network, rows if isinstance(rows, int) else members.folds[0].sizes["train"])
        with ThreadLimit(len(members) * work):
            program = Program(members, plan, self.record.state(index))
            self.advance(part * program.steps)
            trained = program.fit()
        self.record.save(index, program.state, ended=True)
        return {
            model: of_program(self.configurations[model[0]], members.folds[place // each], own, self.record.run)
            for place, (model, own) in enumerate(zip(models, trained, strict=True))
        }

    def _train_alone(self, model: Model) -> Fitted:
        """Train a model that shares no program."""
        number, fold = model

        def seen(epoch: int, steps: int, metrics: Mapping[str, float]) -> bool:
            values = {name: torch.tensor([value], dtype=torch.float64) for name, value in metrics.items()}
            self.record.log(epoch, [model], [steps], values)
            return bool(self.watch(epoch, [model], values).all())

        data, directory = self.folds[fold].copied(), self.record.directory(model)
        lone = Lone(self.configurations[number], data, self.settings, self.record, directory, self.epoch)
        return lone.fit(seen)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end training at a boundary between steps."""
    with interruption.handled_within():
        _defer()
        try:
            yield
        finally:
            interruption.no_longer_defer()


def _defer() -> None:
    if interruption.is_handled():
        interruption.defer(alone=True)
