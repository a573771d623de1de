"""Parameter groups: learning-rate factors and weight decay by patterns of parameter names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch.optim import Optimizer

from torchplug.components.validate import non_negative
from torchplug.errors import ConfigurationError

PatternSettings = Mapping[str, Mapping[str, float]]
"""Pattern of parameter names → `lr`, a factor of the learning rate, and `weight_decay`."""

SETTINGS = ("lr", "weight_decay")
"""What can be set: a factor of the learning rate, and the weight decay."""
_LABELS = ("name", "lr_factor")


def matches(name: str, pattern: str) -> bool:
    """Whether a glob pattern matches a parameter's name, or what follows one of its dots.

    `bias` matches `layers.0.bias`, and `embedding.*` matches `text.embedding.weight`.
    """
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[first:]), pattern) for first in range(len(parts)))


@dataclass(frozen=True)
class GroupSettings:
    """Settings of parameters by patterns of their names; of several matching patterns the last one that sets it counts.

    Args:
        settings: pattern → `lr`, a factor ≥ 0 of the optimizer's learning rate, or `weight_decay` ≥ 0, or both.

    Raises:
        ConfigurationError: for another setting, or a value out of range.
    """

    settings: PatternSettings = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked = {str(pattern): _checked(pattern, own) for pattern, own in self.settings.items()}
        object.__setattr__(self, "settings", checked)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.settings)

    def plain(self) -> dict[str, dict[str, float]] | None:
        """The settings as plain types; None if there are none."""
        return {pattern: dict(own) for pattern, own in self.settings.items()} or None

    def sets(self, key: str) -> bool:
        """Whether a pattern sets `lr`, or `weight_decay`."""
        return any(key in own for own in self.settings.values())

    def over(self, declared: PatternSettings, keys: Sequence[str], names: Sequence[str]) -> GroupSettings:
        """These settings over those that a network declares, where the latter can be used.

        Args:
            declared: by patterns; what both say of a pattern is joined.
            keys: which settings the optimizer has.
            names: the parameters'; a declared pattern that matches none is left out.

        Raises:
            ConfigurationError: if a declared setting is none, or out of range.
        """
        usable = {
            pattern: {key: value for key, value in own.items() if key in keys}
            for pattern, own in GroupSettings(declared).settings.items()
            if any(matches(name, pattern) for name in names)
        }
        first = {pattern: own for pattern, own in usable.items() if own and pattern not in self.settings}
        last = {pattern: {**usable.get(pattern, {}), **own} for pattern, own in self.settings.items()}
        return GroupSettings({**first, **last})

    def refuse(self, optimizer: str, keys: Sequence[str], full_batch: bool) -> None:
        """Refuse settings that the optimizer does not have.

        Args:
            optimizer: its name.
            keys: which of `lr` and `weight_decay` it has.
            full_batch: whether it sees all parameters as one vector.

        Raises:
            ConfigurationError: naming the optimizer and the remedy.
        """
        if not self:
            return
        if full_batch:
            raise ConfigurationError(
                f"groups: {optimizer} moves all parameters as one vector: leave groups out, or use an optimizer for "
                "minibatches such as adam"
            )
        if self.sets("lr") and "lr" not in keys:
            raise ConfigurationError(
                f"groups: {optimizer} has no learning rate that is a number: leave lr out, or use another optimizer"
            )
        if self.sets("weight_decay") and "weight_decay" not in keys:
            raise ConfigurationError(
                f"groups: {optimizer} has no weight decay: use one that has, such as adamw, or the regularizer l2 with "
                "include"
            )

    def divided(self, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Divide parameter groups by the settings of their members.

        Args:
            groups: of (name, parameter) pairs.

        Returns:
            Groups with `name`, the patterns that decide, and what these set: `lr_factor`, `weight_decay`.

        Raises:
            ConfigurationError: if a pattern matches nothing; the message lists the names.
        """
        if not self:
            return [dict(group) for group in groups]
        self._refuse_unmatched([name for group in groups for name, _ in group["params"]])
        found: list[dict[str, Any]] = []
        for group in groups:
            parts: dict[tuple[str, ...], list[Any]] = {}
            for member in group["params"]:
                parts.setdefault(self._deciding(member[0]), []).append(member)
            found += [{**group, "params": members, **self._of(patterns)} for patterns, members in parts.items()]
        return _named_apart(found)

    def _deciding(self, name: str) -> tuple[str, ...]:
        """The patterns that decide on a parameter, each once, in their order."""
        last = {key: pattern for pattern, own in self.settings.items() if matches(name, pattern) for key in own}
        return tuple(pattern for pattern in self.settings if pattern in last.values())

    def _of(self, patterns: Iterable[str]) -> dict[str, Any]:
        patterns = list(patterns)
        settings = {key: value for pattern in patterns for key, value in self.settings[pattern].items()}
        decay = {"weight_decay": settings["weight_decay"]} if "weight_decay" in settings else {}
        return {"name": " + ".join(patterns) or "rest", "lr_factor": settings.get("lr", 1.0), **decay}

    def _refuse_unmatched(self, names: Sequence[str]) -> None:
        unmatched = [pattern for pattern in self.settings if not any(matches(name, pattern) for name in names)]
        if unmatched:
            raise ConfigurationError(
                f"groups: {', '.join(map(repr, unmatched))} matches no parameter; the parameters are {', '.join(names)}"
            )


def with_rates(groups: Sequence[Mapping[str, Any]], optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the groups with learning rates: their factors times the rates that an optimizer has for them."""
    pairs = zip(groups, optimizer.param_groups, strict=True)
    return [{**group, "lr": factor_of(group) * built["lr"]} for group, built in pairs]


def unlabelled(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group as an optimizer's constructor takes it: without name and factor."""
    return {key: value for key, value in group.items() if key not in _LABELS}


def label(optimizer: Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
    """Give an optimizer's parameter groups their names and factors, by which they are logged and scheduled.

    Raises:
        ConfigurationError: if the optimizer makes other groups than those that it was given.
    """
    if not any(key in group for group in groups for key in _LABELS):
        return
    if len(groups) != len(optimizer.param_groups):
        raise ConfigurationError(
            f"groups: {type(optimizer).__name__} makes parameter groups of its own: leave groups out"
        )
    for built, group in zip(optimizer.param_groups, groups, strict=True):
        built.update({key: group[key] for key in _LABELS if key in group})


def factor_of(group: Mapping[str, Any]) -> float:
    """Return the factor of the learning rate of an optimizer's parameter group."""
    return float(group.get("lr_factor", 1.0))


def _checked(pattern: Any, settings: Any) -> dict[str, float]:
    if not isinstance(settings, Mapping) or not settings:
        raise ConfigurationError(f"groups: {pattern!r} needs settings such as {{lr: 0.1}}, got {settings!r}")
    for key, value in settings.items():
        if key not in SETTINGS:
            raise ConfigurationError(f"groups: {pattern!r} has the setting {key!r}: known are {', '.join(SETTINGS)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigurationError(f"groups: {key} of {pattern!r} must be a number, got {value!r}")
        try:
            non_negative(**{f"{key} of {pattern!r}": value})
        except ValueError as error:
            raise ConfigurationError(f"groups: {error}") from error
    return {str(key): float(value) for key, value in settings.items()}


def _named_apart(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups with names that differ."""
    counts: dict[str, int] = {}
    for group in groups:
        name = group["name"]
        counts[name] = counts.get(name, 0) + 1
        if counts[name] > 1:
            group["name"] = f"{name} {counts[name]}"
    return groups
