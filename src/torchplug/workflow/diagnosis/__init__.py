"""Diagnosis of a fit: `torchplug.diagnose`."""

from torchplug.workflow.diagnosis.api import diagnose
from torchplug.workflow.diagnosis.result import Diagnosis

__all__ = ["Diagnosis", "diagnose"]
