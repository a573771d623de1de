"""The tables that are predicted, and how their rows are split."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.model_selection import KFold, StratifiedKFold

FOLDS = 5


class Sources(NamedTuple):
    """Where the tables lie that no package of this environment has.

    Args:
        uci: the folder of tables with fixed splits.
        islp: the wheel of the package ISLP, which need not be installed.
    """

    uci: Path
    islp: Path | None


@dataclass(frozen=True)
class Table:
    """A table, its task and how it is read.

    Args:
        read: returns the rows; the column y is the target.
        classes: whether y is a class; otherwise it is a number.
        held_out: whether nothing was or is chosen by looking at results on it.
        needs_islp: whether the wheel of ISLP is needed.
        masks: returns which rows each split tests, (rows, splits); None: folds do.
    """

    read: Callable[[Sources], pd.DataFrame]
    classes: bool = False
    held_out: bool = False
    needs_islp: bool = False
    masks: Callable[[Sources], np.ndarray] | None = None


def split(table: Table, sources: Sources, number: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to fit and rows to test.

    Without masks, split s is fold s mod 5 of the shuffle whose seed is s // 5, stratified for classes.

    Args:
        table: the table.
        sources: where tables lie.
        number: the split s, from 0.
    """
    rows = table.read(sources)
    if table.masks is not None:
        tested = table.masks(sources)[:, number].astype(bool)
        return rows[~tested], rows[tested]
    seed, fold = divmod(number, FOLDS)
    folds = (StratifiedKFold if table.classes else KFold)(FOLDS, shuffle=True, random_state=seed)
    train, test = list(folds.split(rows, rows["y"]))[fold]
    return rows.iloc[train], rows.iloc[test]


def _uci(name: str, sources: Sources) -> pd.DataFrame:
    rows = pd.read_csv(sources.uci / f"{name}.csv.gz", header=None)
    return rows.set_axis([*(f"x{j}" for j in range(rows.shape[1] - 1)), "y"], axis="columns")


def _uci_masks(name: str, sources: Sources) -> np.ndarray:
    masks: np.ndarray = pd.read_csv(sources.uci / f"{name}.test_mask.csv.gz", header=None).to_numpy()
    return masks


def _bundled(name: str, sources: Sources) -> pd.DataFrame:
    loaded = getattr(datasets, f"load_{name}")(as_frame=True)
    return loaded.data.assign(y=loaded.target)


def _islp(name: str, target: str, left_out: list[str], sources: Sources) -> pd.DataFrame:
    assert sources.islp is not None
    with zipfile.ZipFile(sources.islp) as wheel, wheel.open(f"ISLP/data/{name}.csv") as file:
        rows = pd.read_csv(file)
    return rows.drop(columns=[target, *left_out]).assign(y=rows[target])


def _statsmodels(name: str, target: str, sources: Sources) -> pd.DataFrame:
    """A table of statsmodels; y is 1 where the target is positive, else 0."""
    from statsmodels import datasets as of_statsmodels

    rows = getattr(of_statsmodels, name).load_pandas().data
    return rows.drop(columns=target).assign(y=(rows[target] > 0).astype(int))


def _of_uci(name: str) -> Table:
    return Table(partial(_uci, name), masks=partial(_uci_masks, name))


def _of_islp(name: str, target: str, *left_out: str, classes: bool = False, held_out: bool = False) -> Table:
    return Table(partial(_islp, name, target, list(left_out)), classes, held_out, needs_islp=True)


_UCI = ["yacht", "servo", "energy", "concrete", "wine", "airfoil"]
_UCI += ["skillcraft", "sml", "parkinsons", "elevators", "pol", "bike"]

TABLES: dict[str, Table] = {
    **{name: _of_uci(name) for name in _UCI},
    "breast_cancer": Table(partial(_bundled, "breast_cancer"), classes=True),
    "cultivars": Table(partial(_bundled, "wine"), classes=True),  # wine is a table of UCI, too
    "iris": Table(partial(_bundled, "iris"), classes=True),
    "digits": Table(partial(_bundled, "digits"), classes=True),
    "oj": _of_islp("OJ", "Purchase", classes=True),
    "fair": Table(partial(_statsmodels, "fair", "affairs"), classes=True),
    "default": _of_islp("Default", "default", classes=True),
    "caravan": _of_islp("Caravan", "Purchase", classes=True),
    "auto": _of_islp("Auto", "mpg", "name", held_out=True),
    "carseats": _of_islp("Carseats", "Sales", held_out=True),
    "wage": _of_islp("Wage", "wage", "logwage", held_out=True),
    "bikeshare": _of_islp("Bikeshare", "bikers", "casual", "registered", held_out=True),
    "college": _of_islp("College", "Private", classes=True, held_out=True),
    "anes96": Table(partial(_statsmodels, "anes96", "vote"), classes=True, held_out=True),
}
"""By name: numbers first, then classes; small before large."""
