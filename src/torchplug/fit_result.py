"""The result of a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning

from torchplug.evaluation.linear_baseline import LinearBaseline
from torchplug.module import ComponentModule
from torchplug.registry.component import Outcome


@dataclass(frozen=True)
class FitResult:
    """The result of a fit.

    Args:
        metrics: the last value of each metric by name, such as `val/loss`; None stands for NaN and infinity.
        outcome: how training ended.
        build: gives the module with the parameters of the last step, when it is first asked for.
        run: the run directory, where there is one; `torchplug.load(run)` gives the model of its best checkpoint.
        baseline: the model of the best checkpoint beside a linear one, on the validation split; None where they were
            not compared.
    """

    metrics: Mapping[str, float | None]
    outcome: Outcome
    build: Callable[[], ComponentModule] = field(repr=False)
    run: Any = None
    baseline: LinearBaseline | None = None

    @cached_property
    def module(self) -> ComponentModule:
        """The trained module."""
        return self.build()

    def save_checkpoint(self, path: str | Path) -> None:
        """Write a checkpoint that `ComponentModule.load_from_checkpoint` and the recipes' `predict` read.

        Args:
            path: of the file.
        """
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(accelerator="cpu", enable_model_summary=False, **quiet)  # type: ignore[arg-type]
        trainer.strategy.connect(self.module)
        trainer.save_checkpoint(path, weights_only=True)


class LateMetrics(Mapping[str, float]):
    """Metrics of which some are known and the others are computed when they are first asked for.

    Args:
        known: by name.
        names: all of them.
        compute: gives the others.
    """

    def __init__(
        self, known: Mapping[str, float], names: tuple[str, ...], compute: Callable[[], Mapping[str, float]]
    ) -> None:
        self._values = dict(known)
        self._names = names
        self._compute: Callable[[], Mapping[str, float]] | None = compute

    def __getitem__(self, name: str) -> float:
        if name not in self._values and name in self._names and self._compute is not None:
            self._values = {**self._compute(), **self._values}
            self._compute = None
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(self._values)
