"""The exceptions of torchplug, as one tree.

A message is one line: what is wrong, where, and the remedy. `exit_status` is the exit status of a
command: 2 if the input was refused and nothing ran, 3 if training or writing had to stop.
"""


class TorchplugError(Exception):
    """Base class of all exceptions of torchplug."""

    exit_status = 2


class ConfigurationError(TorchplugError):
    """A setting or a combination of settings cannot work."""


class UnknownComponentError(ConfigurationError):
    """No loaded plugin, or more than one, has a component of this name."""


class ParameterError(ConfigurationError):
    """A component's parameter does not exist, or its type or range is wrong."""


class PluginError(TorchplugError):
    """A distribution is broken, blocked or missing."""


class DataError(TorchplugError):
    """A table cannot be used with these settings."""


class CheckpointError(TorchplugError):
    """A checkpoint cannot be found, read, or used with these data."""


class WriteError(TorchplugError):
    """A file cannot be written; its previous content is unchanged."""

    exit_status = 3


class TrainingError(TorchplugError):
    """Training had to stop; earlier checkpoints are kept."""

    exit_status = 3


class PluginTrainingError(PluginError, TrainingError):
    """A plugin's component failed during training; earlier checkpoints are kept."""


class NonFiniteGradientError(TrainingError):
    """The reduced gradient was not finite; no update was applied from that step on."""
