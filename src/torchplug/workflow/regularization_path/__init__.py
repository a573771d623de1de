"""The regularization path: `torchplug.path`."""

from torchplug.workflow.regularization_path.api import path
from torchplug.workflow.regularization_path.result import RegularizationPath

__all__ = ["RegularizationPath", "path"]
