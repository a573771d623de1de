"""Cross-validation: `torchplug.cross_validate`."""

from torchplug.workflow.cross_validation.api import cross_validate

__all__ = ["cross_validate"]
