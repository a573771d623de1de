"""Settings of temperature scaling that cannot take effect."""

from __future__ import annotations

from torchplug.components.contracts import Loss
from torchplug.errors import ConfigurationError
from torchplug.evaluation.temperature import takes_temperature


def refuse_calibrate(calibrate: bool, loss: Loss, name: str) -> None:
    """Refuse to scale scores that are turned into no probabilities.

    Args:
        calibrate: the setting.
        loss: the loss.
        name: the loss's.

    Raises:
        ConfigurationError: for a loss without probabilities of classes, or with a link of its own.
    """
    if not isinstance(calibrate, bool):
        raise ConfigurationError(f"calibrate is true or false, not {calibrate!r}")
    if not calibrate or takes_temperature(loss):
        return
    if loss.task.probabilities is not None:
        raise ConfigurationError(f"calibrate: {name} makes probabilities by a link of its own, not σ or softmax")
    predicted, remedy = "numbers", "leave it out (predictions of numbers have intervals)"
    if loss.task.has_classes:
        predicted, remedy = "scores", "choose bce or cross_entropy, or leave it out"
    raise ConfigurationError(f"calibrate scales probabilities of classes, and {name} predicts {predicted}: {remedy}")
