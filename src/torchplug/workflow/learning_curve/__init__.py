"""Learning curves: `torchplug.learning_curve`."""

from torchplug.workflow.learning_curve.api import learning_curve
from torchplug.workflow.learning_curve.result import LearningCurve

__all__ = ["LearningCurve", "learning_curve"]
