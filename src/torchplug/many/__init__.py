"""Many models as one program."""

from torchplug.many.fitting import fit_many

__all__ = ["fit_many"]
