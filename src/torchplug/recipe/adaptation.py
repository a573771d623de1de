"""Defaults that follow from the data: a recipe's rules, applied to what its table is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from torchplug.components.task import TASKS, Problem
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.preprocessing import DataRequirements
from torchplug.registry import registry
from torchplug.registry.component import Family, Spec
from torchplug.settings.model import SLOTS

if TYPE_CHECKING:
    from torchplug.recipe.settings import Settings
    from torchplug.recipe.values import Values


@dataclass(frozen=True)
class TableSummary:
    """What a recipe's rules follow.

    Args:
        rows: of the training split.
        features: the encoded features.
        task: numbers, two classes or more; by the loss where the user gives one, else by the target.
        model: the name of the network that the user gives; None for that of the rules.
        streamed: whether the table stays on disk (`data.stream`).
        validation_rows: of the validation split.
        balance: the rarest class's rows in the training split over the mean of all classes, in [0, 1]; 1 for numbers,
            probabilities, and tables that stay on disk.
    """

    rows: int
    features: int
    task: Problem
    model: str | None = None
    streamed: bool = False
    validation_rows: int = 0
    balance: float = 1.0


Rules = Callable[[TableSummary], Mapping[str, Mapping[str, Any]]]
"""A recipe's rules: settings by group for a table."""

_STAND_INS = tuple(TableSummary(1000, 10, task, validation_rows=250) for task in ("regression", "multiclass"))
"""Tables whose settings stand in until the table is read."""


@dataclass(frozen=True)
class Adaptation:
    """Settings that follow from a table.

    Args:
        summary: what the table is.
        chosen: the answers of the recipe's rules, by group and setting.
        data: the table, read and prepared.
        reading: how the target was understood, where that is no matter of course; else None.
    """

    summary: TableSummary
    chosen: Mapping[str, Mapping[str, Any]]
    data: TabularData
    reading: str | None

    def apply(self, settings: Settings) -> Settings:
        """A recipe's settings with those that follow from the table."""
        return _with(settings, self.chosen)

    def notes(self, specs: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What was chosen and not overridden by the user, in one line, and how the target was understood.

        Args:
            specs: the components of the command line, and the settings beside them.
            others: its other settings, by group.
        """
        kept = [
            *(
                text
                for slot, value in self.chosen.get("model", {}).items()
                if (text := _kept(slot, value, specs[slot]))
            ),
            *(
                f"{key} {value}"
                for group, chosen in self.chosen.items()
                if group != "model"
                for key, value in chosen.items()
                if others[group][key] == value
            ),
        ]
        table = f"{self.summary.rows} rows × {self.summary.features} features ({self.summary.task})"
        lines = [f"chosen for {table}: {', '.join(kept)}"] if kept else []
        return [*([self.reading] if self.reading else []), *lines]


def adapted_keys(settings: Settings) -> list[str]:
    """The settings that the recipe's rules choose, as flags name them; none for a recipe without rules."""
    if settings.adapt is None:
        return []
    return [f"{group}.{key}" for group, chosen in settings.adapt(_STAND_INS[0]).items() for key in chosen]


def with_stand_ins(settings: Settings) -> Settings:
    """The settings with the rules' answers for a table of ordinary size, where none is read."""
    return settings if settings.adapt is None else _with(settings, settings.adapt(_STAND_INS[0]))


def adapt(settings: Settings, resolved: Callable[[Settings], Values]) -> Adaptation:
    """Read the table that a command line names, and ask the recipe's rules.

    Args:
        settings: the recipe's, with rules.
        resolved: gives the command line's settings over given defaults.

    Raises:
        ConfigurationError: for a command line that is refused whatever the task is.
        DataError: if the table cannot be used.
    """
    assert settings.adapt is not None, "only recipes with rules have such settings"
    rules = settings.adapt
    found = _resolved(settings, resolved, _STAND_INS)
    given = _given(rules, found)
    if given:
        found = _resolved(settings, resolved, [replace(stand_in, **given) for stand_in in _STAND_INS])
    values = [each for _, each in found]
    data = TabularData(**values[0].data)
    losses = [each.model["loss"] for each in values]
    # A loss that does not follow the stand-in was given by the user.
    loss: Spec | None = losses[0] if len(losses) == 2 and losses[0] == losses[1] else None
    kind = None if loss is None else getattr(registry().target(registry().find(Family.LOSS, loss.name)), "kind", None)
    reading = None
    if kind is None:
        kind, reading = data.guess_kind()
    data.prepare(DataRequirements(kind=kind, loss="" if loss is None else loss.name, standardize_target=True))
    assert data.preprocessing is not None, "it was prepared"
    summary = TableSummary(
        rows=data.sizes["train"],
        features=len(data.preprocessing.feature_names),
        task=TASKS[kind].problem,
        validation_rows=data.sizes["validation"],
        balance=_balance(data),
        **given,
    )
    return Adaptation(summary, rules(summary), data, reading)


def _balance(data: TabularData) -> float:
    """The rarest class's rows in the training split over the mean of all classes; 1 where there are no classes."""
    assert data.preprocessing is not None, "it is prepared"
    classes = data.preprocessing.info.classes
    if classes is None or data.stream:
        return 1.0
    target = torch.cat([batch.target for batch in data.all_batches("train")])
    if target.shape[1:].numel() > 1 or bool((target != target.round()).any()):  # probabilities
        return 1.0
    counts = torch.bincount(target.flatten().long(), minlength=len(classes)).double()
    return float(counts.min() / counts.mean())


def _resolved(
    settings: Settings, resolved: Callable[[Settings], Values], stand_ins: Sequence[TableSummary]
) -> list[tuple[TableSummary, Values]]:
    """The command line's settings for each of the tables for which they can be had.

    Raises:
        ConfigurationError: if there are none.
    """
    assert settings.adapt is not None, "only recipes with rules have such settings"
    found, refusals = [], []
    for stand_in in stand_ins:
        try:
            found.append((stand_in, resolved(_with(settings, settings.adapt(stand_in)))))
        except ConfigurationError as error:  # such as a parameter that only the other task's loss has
            refusals.append(error)
    if not found:
        raise refusals[0]
    return found


def _given(rules: Rules, found: Sequence[tuple[TableSummary, Values]]) -> dict[str, Any]:
    """What the rules follow beside the table: a network that the user gives, and a table that stays on disk."""
    given: dict[str, Any] = {"streamed": True} if found[0][1].data["stream"] else {}
    for stand_in, values in found:
        chosen, final = rules(stand_in).get("model", {}).get("model"), values.model["model"]
        if chosen is not None and isinstance(final, Spec) and final.name != Spec.of(chosen).name:
            given["model"] = final.name
    return given


def _with(settings: Settings, chosen: Mapping[str, Mapping[str, Any]]) -> Settings:
    return replace(
        settings,
        model={**settings.model, **chosen.get("model", {})},
        data={**settings.data, **chosen.get("data", {})},
        trainer={**settings.trainer, **chosen.get("trainer", {})},
    )


def _kept(slot: str, chosen: Any, final: Any) -> str:
    """The part of a choice for the model that the user has not overridden, as text; empty if there is none."""
    if slot not in SLOTS:
        return f"{slot} {chosen}" if chosen == final else ""
    wanted = Spec.of(chosen)
    if not isinstance(final, Spec) or final.name != wanted.name:
        return ""
    kept = {key: value for key, value in wanted.parameters.items() if final.parameters.get(key) == value}
    return " ".join([wanted.name, *_parameters(kept)]) if kept or not wanted.parameters else ""


def _parameters(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{key} {'-'.join(map(str, value)) if isinstance(value, list) else value}"
