"""What can be set on a recipe's command line, and what a recipe sets itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from torchplug.recipe.subcommands import options_of
from torchplug.settings.groups import signature_of
from torchplug.tracking.settings import Tracking

if TYPE_CHECKING:
    from torchplug.recipe.adaptation import TableSummary

_OWN_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "data": {"source": None},
    # What Lightning's sanity check would find is checked before any rank starts.
    "trainer": {"num_sanity_val_steps": 0, "enable_model_summary": False},
    "tracking": asdict(Tracking()),
}


@dataclass(frozen=True)
class Settings:
    """What a recipe sets: the defaults of its command line.

    Args:
        model: a component for each slot (model, loss, optimizer, regularizers, scheduler).
        data: parameters of TabularData.
        trainer: parameters of lightning's Trainer.
        tracking: parameters of Tracking.
        seed: what all random generators are seeded with.
        adapt: rules for defaults that follow from the table of a new fit: settings by group (model, data, trainer),
            which come before those above, and which files, variables and flags override.
        refit: whether `fit` trains again on training and validation rows.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    trainer: Mapping[str, Any] = field(default_factory=dict)
    tracking: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    adapt: Callable[[TableSummary], Mapping[str, Mapping[str, Any]]] | None = None
    refit: bool = False

    def group(self, name: str) -> dict[str, Any]:
        """The defaults of a group of settings, those of its class included."""
        chosen: Mapping[str, Any] = getattr(self, name)
        own = {key: parameter.default for key, parameter in signature_of(name).items()}
        return {**own, **_OWN_DEFAULTS[name], **chosen}


def top_level(subcommand: str) -> dict[str, Parameter]:
    """The settings outside of groups that a subcommand takes."""
    return {
        name: Parameter(name, Parameter.KEYWORD_ONLY, annotation=option.annotation, default=option.default)
        for name, option in options_of(subcommand).items()
    }
