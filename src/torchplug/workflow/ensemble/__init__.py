"""Ensembles: `torchplug.fit_ensemble`."""

from torchplug.workflow.ensemble.api import fit_ensemble

__all__ = ["fit_ensemble"]
