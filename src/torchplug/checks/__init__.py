"""What is refused before the first step of a fit or an evaluation, in one place.

What names and parameters alone show is refused by `ResolvedConfig.of`. The functions here come in the order in which
more is known: options at construction, the model when the data are there, `refuse_fit` with the trainer, before there
is a run directory, and in `on_train_start` what only the built optimizer and the loader show. What is wrong with a
table or a checkpoint is found where these are read.
"""

from __future__ import annotations

import lightning

from torchplug.checks.calibration import refuse_calibrate
from torchplug.checks.limits import refuse_evaluation, refuse_limits, validates
from torchplug.checks.numbers import refuse_numbers
from torchplug.checks.optimizer import refuse_model, refuse_options, refuse_settings, refuse_start
from torchplug.checks.prepared_data import PreparedData
from torchplug.checks.saved_state import refuse_state
from torchplug.checks.trial_loss import check_units, try_loss
from torchplug.checks.watched import refuse_monitor, refuse_unlogged
from torchplug.resolved_config import ResolvedConfig
from torchplug.training import Execution

__all__ = [
    "check_units",
    "refuse_calibrate",
    "refuse_evaluation",
    "refuse_fit",
    "refuse_model",
    "refuse_monitor",
    "refuse_numbers",
    "refuse_options",
    "refuse_settings",
    "refuse_start",
    "refuse_state",
    "try_loss",
    "validates",
]


def refuse_fit(
    trainer: lightning.Trainer, resolved: ResolvedConfig, options: Execution, data: PreparedData, labelled: bool
) -> None:
    """Refuse a fit that would fail on the way, train otherwise than asked, or in which a setting has no effect.

    Args:
        trainer: as it will fit.
        resolved: the components.
        options: how minibatches are executed.
        data: prepared.
        labelled: whether targets are classes, not probabilities.

    Raises:
        ConfigurationError: naming the setting, what is wrong and what would work.
    """
    refuse_settings(resolved, options, trainer)
    refuse_limits(trainer, data)
    refuse_unlogged(trainer, resolved, validates(trainer, data), labelled)
