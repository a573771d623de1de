"""The learning-rate schedules of many models, each with its own progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from torchplug.many.members import Members, components_of


class Schedules:
    """The schedulers of K models, stepped with those that move.

    Args:
        members: the models.
        optimizers: of each model, (K,).
        epochs: planned.
        steps: of an epoch, of each fold.
        changed: is called after rates were changed.
    """

    def __init__(
        self,
        members: Members,
        optimizers: Sequence[Any],
        epochs: int,
        steps: Sequence[int],
        changed: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._by_interval: dict[str, list[tuple[int, Any]]] = {"step": [], "epoch": []}
        for model, configuration in enumerate(members.each()):
            resolved = components_of(configuration)
            if resolved.scheduler is None or not resolved.takes_learning_rate:
                continue
            optimizer, own = optimizers[model], steps[model // len(members.configurations)]
            optimizer._opt_called = True  # or torch warns of schedules that step before an optimizer's `step`
            scheduler = resolved.build_scheduler(optimizer, epochs * own, own)
            self._by_interval[getattr(scheduler, "interval", "epoch")].append((model, scheduler))
        changed()

    def keep(self, models: Sequence[int]) -> None:
        """Forget all models but these."""
        places = {model: place for place, model in enumerate(models)}
        for interval, own in self._by_interval.items():
            self._by_interval[interval] = [(places[model], each) for model, each in own if model in places]

    def step(self, interval: str, moves: Callable[[int], bool], metrics: Mapping[str, Tensor]) -> None:
        """Step those that count steps, or epochs.

        Args:
            interval: `step` or `epoch`.
            moves: says of a model whether it has moved.
            metrics: of each model, (K,) by name, for schedules that watch one.
        """
        for model, scheduler in self._by_interval[interval]:
            if not moves(model):
                continue
            monitor = getattr(scheduler, "monitor", None)
            if monitor is None:
                scheduler.step()
            else:
                scheduler.step(float(metrics[monitor][model]))
        if self._by_interval[interval]:
            self._changed()

    def reasons_to_end(self, losses: Tensor) -> dict[int, str]:
        """Which models' schedules end their training after an epoch, and why.

        Args:
            losses: of each model's validation, (K,).
        """
        found = {}
        for model, scheduler in (pair for own in self._by_interval.values() for pair in own):
            reason = scheduler.reason_to_end(float(losses[model])) if getattr(scheduler, "stop_early", False) else None
            if reason is not None:
                found[model] = str(reason)
        return found

    def state(self) -> dict[str, list[Any]]:
        """The schedulers' states, for a checkpoint."""
        return {interval: [each.state_dict() for _, each in own] for interval, own in self._by_interval.items()}

    def load(self, state: Mapping[str, Sequence[Any]]) -> None:
        """Restore what `state` returned; learning rates are the optimizers'."""
        for interval, own in self._by_interval.items():
            for (_, scheduler), saved in zip(own, state[interval], strict=True):
                scheduler.load_state_dict(saved)
