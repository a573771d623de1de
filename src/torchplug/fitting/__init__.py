"""Fits: checked, trained in a run directory, and read back."""

from torchplug.fitting.api import FitResult, fit

__all__ = ["FitResult", "fit"]
