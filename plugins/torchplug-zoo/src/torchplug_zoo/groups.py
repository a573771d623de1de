"""Rules of parameter groups for optimizers that treat matrices otherwise than vectors."""

from __future__ import annotations

from typing import Any

Named = list[tuple[str, Any]]
"""Trainable parameters with their names."""


def matrices_by_muon(named: Named) -> list[dict[str, Any]]:
    """Muon for weights of two or more dimensions, and its companion AdamW for biases and normalization layers."""
    return [
        {"params": [(name, p) for name, p in named if p.ndim >= 2], "use_muon": True},
        {"params": [(name, p) for name, p in named if p.ndim < 2], "use_muon": False},
    ]
