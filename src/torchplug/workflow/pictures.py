"""Pictures of results as PNG files, by matplotlib where it is installed."""

from __future__ import annotations

import gc
import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchplug.tracking.whole_files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INSTALL = "pictures need matplotlib: pip install 'torchplug[plots]'"


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def panels(columns: int, rows: int = 1, width: float = 5.0, height: float = 3.6) -> tuple[Figure, list[Any]]:
    """Return a figure and its axes, row by row.

    Args:
        columns: panels beside each other.
        rows: rows of panels.
        width: of a panel, in inches.
        height: of a panel, in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, axes


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file, whole or not at all, and return its path.

    Raises:
        WriteError: if it cannot be written.
    """
    gc.collect()  # figures drawn before are cycles that hold their pixels: many of them fragment the memory
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    with whole_file(path) as file:
        file.write(picture.getbuffer())
    return path
