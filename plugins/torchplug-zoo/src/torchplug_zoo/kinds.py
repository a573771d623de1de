"""The losses of `torch.nn` whose values are those of single samples, and what each is for. Imports no torch."""

from __future__ import annotations

from typing import Literal

Kind = Literal["regression", "binary", "multiclass", "count", "margin"]

KINDS: dict[str, Kind] = {
    "BCEWithLogitsLoss": "binary",
    "CrossEntropyLoss": "multiclass",
    "HuberLoss": "regression",
    "L1Loss": "regression",
    "MSELoss": "regression",
    "PoissonNLLLoss": "count",
    "SmoothL1Loss": "regression",
    "SoftMarginLoss": "margin",
}
"""Left out are losses of two or three inputs, of distances, probabilities and sequences, and margins of several
classes, whose scores are no logarithms of probabilities."""

KINKED = ("L1Loss",)
"""Those that are not differentiable everywhere."""
