"""A network beside a linear model on the validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class LinearBaseline:
    """Metrics of the model that a fit keeps and of a linear one, on the whole validation split.

    Args:
        kind: `ridge` for numbers; `logistic` for classes: the fit's loss, labels not smoothed, with an l2 penalty.
        coefficient: λ of the linear model's l2 penalty, on the features of the fit.
        linear: the linear model's metrics by name, such as `val/loss`; None where one is undefined.
        model: those of the kept model.
        shown: the metric to compare them by in a message: `val/rmse` where it orders them as `val/loss` does,
            `val/log_loss` where the fit smooths labels, else `val/loss`.
    """

    kind: Literal["ridge", "logistic"]
    coefficient: float
    linear: Mapping[str, float | None]
    model: Mapping[str, float | None]
    shown: str

    @property
    def wins(self) -> bool:
        """Whether the linear model has the lower `val/loss`."""
        return _loss(self.linear) < _loss(self.model)

    def plain(self) -> dict[str, Any]:
        """What outcome.json holds."""
        return {
            "kind": self.kind,
            "coefficient": self.coefficient,
            "linear": dict(self.linear),
            "model": dict(self.model),
            "wins": self.wins,
        }

    def __str__(self) -> str:
        """Return which is better, with both figures."""
        better, worse = (self.linear, self.model) if self.wins else (self.model, self.linear)
        name = "a linear model" if self.wins else "the network"
        return f"{name} has the lower {self.shown}, {better[self.shown]:.4g} instead of {worse[self.shown]:.4g}"


def _loss(metrics: Mapping[str, float | None]) -> float:
    value = metrics["val/loss"]
    return float("inf") if value is None else value
