"""The picture of a cross-validation: predictions of unseen rows against the target, or a confusion matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars

from torchplug.workflow import pictures
from torchplug.workflow.cross_validation.out_of_fold import ACTUAL

_MOST_PANELS = 3
_MOST_WRITTEN = 20
"""The largest number of classes whose counts are written into the matrix."""


def draw(predictions: polars.DataFrame, path: Path, labels: bool) -> None:
    """Write the picture, if a predicted column is comparable with a target.

    Args:
        predictions: of `CrossValidation`.
        path: of the PNG file.
        labels: whether the target is a class's label.

    Raises:
        WriteError: if it cannot be written.
    """
    targets = [name.removeprefix(ACTUAL) for name in predictions.columns if name.startswith(ACTUAL)]
    shown = [name for name in targets if name in predictions.columns][:_MOST_PANELS]
    if not shown:
        return
    figure, axes = pictures.panels(len(shown), width=5.2, height=4.6)
    for axis, name in zip(axes, shown, strict=True):
        actual, predicted = predictions[f"{ACTUAL}{name}"], predictions[name]
        if labels:
            _confusion(axis, figure, actual, predicted)
        else:
            _scatter(axis, actual.to_numpy(), predicted.to_numpy())
        axis.set_title(f"{name}: out-of-fold predictions")
    pictures.save(figure, path)


def _scatter(axis: Any, actual: Any, predicted: Any) -> None:
    size = 12 if len(actual) <= 2000 else 3
    axis.scatter(actual, predicted, s=size, alpha=0.5, linewidths=0)
    ends = [np.nanmin([actual, predicted]), np.nanmax([actual, predicted])]
    axis.plot(ends, ends, color="black", linewidth=0.8)
    axis.set_xlabel("target")
    axis.set_ylabel("prediction")
    axis.set_aspect("equal", adjustable="box")


def _confusion(axis: Any, figure: Any, actual: polars.Series, predicted: polars.Series) -> None:
    """Counts of each pair of classes, coloured by their share of the actual class."""
    classes = polars.concat([actual, predicted]).unique().sort().to_list()
    places = {label: place for place, label in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)))
    for pair in zip(actual.to_list(), predicted.to_list(), strict=True):
        counts[places[pair[0]], places[pair[1]]] += 1
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axis, label="share of the actual class", shrink=0.8)
    axis.grid(visible=False)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("actual class")
    if len(classes) > _MOST_WRITTEN:
        return
    names = [str(label) for label in classes]
    axis.set_xticks(range(len(names)), names, rotation=45 if max(map(len, names)) > 3 else 0)
    axis.set_yticks(range(len(names)), names)
    for row, column in np.ndindex(counts.shape):
        if counts[row, column]:
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=color, fontsize=8)
