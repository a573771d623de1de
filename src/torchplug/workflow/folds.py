"""The rows of each fold, none of them of the test split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from torchplug.data.folds import Fold
from torchplug.data.splitting import DrawnRows
from torchplug.data.tabular import TabularData
from torchplug.errors import DataError
from torchplug.registry.component import Kind

__all__ = ["Fold", "divided"]


def divided(
    data: TabularData, folds: int | Sequence[tuple[Any, Any]], *, kind: Kind, seed: int, repeats: int = 1
) -> list[Fold]:
    """Return the rows that train and those that validate in each fold, counted from 0 in the source.

    Args:
        data: the table.
        folds: k, for `TabularData.folds`; or the rows themselves.
        kind: of the loss.
        seed: of folds that are drawn, 0 or more.
        repeats: how many times the rows are divided into folds.

    Raises:
        DataError: for folds that are impossible, or have rows of the test split.
    """
    if isinstance(folds, int):
        return data.folds(folds, repeats=repeats, seed=seed, kind=kind)
    given = [DrawnRows.of(*fold) for fold in folds]
    sealed = data.test_rows(kind)
    for number, fold in enumerate(given):
        if not len(fold.validation):
            raise DataError(f"fold {number} has no row to validate")
        tested = sealed[np.isin(sealed, np.concatenate([fold.training, fold.validation]))]
        if len(tested):
            raise DataError(
                f"fold {number} has row {tested[0]}, which belongs to the test split: leave that out of all folds "
                "(TabularData.test_rows), or have none by split=[0.8, 0.2]"
            )
    return [(fold.training, fold.validation) for fold in given]
