"""Fits: checked, trained in a run directory, and read back."""

from torchplug.fitting.api import fit

__all__ = ["fit"]
