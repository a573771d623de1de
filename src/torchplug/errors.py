"""Everything that torchplug raises on purpose, in one tree.

A message is one line: what is wrong, where, and the remedy. `exit_status` is what a command ends
with: 2 when the input was refused and nothing ran, 3 when training or writing had to stop on the way.
"""


class TorchplugError(Exception):
    """Root of the tree: catching it catches all that torchplug raises on purpose."""

    exit_status = 2


class ConfigurationError(TorchplugError):
    """A setting, or a combination of settings, that cannot work."""


class UnknownComponentError(ConfigurationError):
    """A name that no loaded plugin offers, or that two of them offer."""


class ParameterError(ConfigurationError):
    """A component's parameter that does not exist, or whose type or range is wrong."""


class PluginError(TorchplugError):
    """A distribution that is broken, blocked or missing."""


class DataError(TorchplugError):
    """A table that cannot be used as asked."""


class CheckpointError(TorchplugError):
    """A checkpoint that cannot be found, read, or used with these data."""


class WriteError(TorchplugError):
    """A file that cannot be written; what it held before is unchanged."""

    exit_status = 3


class TrainingError(TorchplugError):
    """Training had to stop; what was reached before is kept."""

    exit_status = 3


class NonFiniteGradientError(TrainingError):
    """The reduced gradient held NaN or Inf; from that step on no update was applied."""
