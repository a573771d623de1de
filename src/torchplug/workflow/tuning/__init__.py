"""Learning rate and batch size from short trial trainings: `torchplug.tune_lr`, `torchplug.tune_batch_size`."""

from torchplug.workflow.tuning.batch_size import BatchSizes, tune_batch_size
from torchplug.workflow.tuning.learning_rate import LearningRates, tune_lr

__all__ = ["BatchSizes", "LearningRates", "tune_batch_size", "tune_lr"]
