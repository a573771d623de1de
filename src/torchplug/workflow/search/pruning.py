"""Which trials are ended early: by successive halving over epochs, or by Wilcoxon's test over folds."""

from __future__ import annotations

import math
from typing import Literal

from optuna.pruners import BasePruner, NopPruner, WilcoxonPruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from typing_extensions import override

from torchplug.errors import ConfigurationError
from torchplug.workflow.search.storage import quiet

Pruner = Literal["none", "halving", "wilcoxon"]

_FACTOR = 3
"""Of the trials that reach a rung, one in so many goes on."""
_LEAST_FOLDS = 5
"""Before the fourth no difference is significant at Wilcoxon's 0.1, and of four none would be left to save."""


class Halving(BasePruner):
    """Successive halving, synchronous over the trials that are trained together.

    After 1, 3, 9, … epochs the best third of all trials that have come so far goes on. Optuna's own pruner decides on
    each trial when it reports, which for trials that report together would depend on their order.

    Reference: Jamieson and Talwalkar (2016), arXiv:1502.07943, with η = 3.
    """

    @override
    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        epochs = trial.last_step
        if epochs is None:
            return False
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        value = sign * trial.intermediate_values[epochs]
        reached = [own.intermediate_values.get(epochs) for own in study.get_trials(deepcopy=False)]
        values = sorted(sign * own for own in reached if own is not None and not math.isnan(own))
        kept = max(1, len(values) // _FACTOR)
        return not (values and value <= values[min(kept, len(values)) - 1])


def is_rung(epochs: int) -> bool:
    """Whether trials are halved after so many epochs."""
    while epochs > 1 and epochs % _FACTOR == 0:
        epochs //= _FACTOR
    return epochs == 1


def build_pruner(name: Pruner) -> BasePruner:
    """The pruner of a name.

    Raises:
        ConfigurationError: if what it needs is not installed.
    """
    if name == "wilcoxon":
        try:
            import scipy.stats  # noqa: F401
        except ImportError:
            raise ConfigurationError("--pruner wilcoxon needs SciPy: pip install scipy") from None
        with quiet():  # it is experimental
            return WilcoxonPruner()
    return Halving() if name == "halving" else NopPruner()


def refuse_pruner(name: Pruner, metric: str, folds: int) -> None:
    """Refuse a pruner that could not work.

    Args:
        name: the pruner.
        metric: what trials are compared by.
        folds: how many there are.

    Raises:
        ConfigurationError: saying why.
    """
    if name == "halving" and metric != "val/loss":
        raise ConfigurationError(
            f"--pruner halving compares trials by val/loss, the metric known after each epoch, not by {metric}: leave "
            "out --metric, or the pruner"
        )
    if name == "wilcoxon" and folds < _LEAST_FOLDS:
        raise ConfigurationError(
            f"--pruner wilcoxon compares trials fold by fold, and {folds} say too little: give --folds "
            f"{_LEAST_FOLDS} or more"
        )
