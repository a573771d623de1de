"""A data module that tells its target's kind, and divides its rows into folds, before anything is prepared."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray

from torchplug.data.folds import Folding
from torchplug.data.in_memory import InMemoryTables
from torchplug.data.prepared import Prepared, Split, Tables
from torchplug.data.splitting import DrawnRows
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements, Preprocessing
from torchplug.preprocessing.target_fit import guess_kind
from torchplug.registry.component import Kind
from torchplug.tables import BUNDLED


class Foldable(LightningDataModule):
    """What `TabularData` knows before it is prepared, and its folds.

    Attributes:
        sources: the tables by role.
    """

    sources: dict[str, Any]
    preprocessing: Preprocessing | None
    notes: list[str]
    test_notes: list[str]
    _tables: Tables
    _request: DataRequirements
    _prepared: Prepared | None
    _prediction: Split | None

    def guess_kind(self) -> tuple[Kind, str | None]:
        """Return the kind of loss that suits the target, and a note if whole numbers are taken for classes, else None.

        Classes are text, booleans and categories; two whole numbers; and whole numbers 0, 1, … or 1, 2, …, up to 20 of
        them that occur 5 times each on average. Everything else is numbers.

        Raises:
            DataError: if the source cannot be read.
        """
        kind, note = guess_kind(self._tables.targets())
        bundled = isinstance(self.sources["source"], str) and self.sources["source"] in BUNDLED
        return kind, None if bundled else note

    def folds(
        self, folds: int = 5, *, repeats: int = 1, seed: int = 0, kind: Kind | None = None
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Divide all rows but those of the test split into folds for cross-validation.

        Whole groups with `group`; along `time`, each fold validating what comes after its training rows, as
        scikit-learn's TimeSeriesSplit does; else drawn, by class where targets are classes and `stratify` is set. With
        `split_column` the rows marked train and validation are divided.

        Args:
            folds: k, at least 2.
            repeats: how many times the rows are divided into folds, at least 1.
            seed: of the folds that are drawn, 0 or more.
            kind: of the loss; none: guessed from the target.

        Returns:
            (training, validation) rows of each of the k · repeats folds, counted from 0 in the source, ascending.

        Raises:
            DataError: if there are fewer rows, groups, times or members of a class than folds; for streamed tables, and
                where validation has a table of its own.

        >>> from torchplug import TabularData
        >>> [len(validation) for _, validation in TabularData("iris").folds(4)]
        [30, 30, 30, 30]
        """
        tables = self._in_memory()
        return tables.folds(kind or self.guess_kind()[0], Folding(folds, repeats, seed))

    def test_rows(self, kind: Kind | None = None) -> NDArray[np.int64]:
        """The rows of the source in its test split, which no fold may have, counted from 0.

        Args:
            kind: of the loss; none: guessed from the target.

        Raises:
            DataError: if the table cannot be split; for streamed tables.
        """
        return self._in_memory().test_rows(kind or self.guess_kind()[0])

    def _in_memory(self) -> InMemoryTables:
        if not isinstance(self._tables, InMemoryTables):
            raise DataError("stream leaves tables on disk, and folds need them in memory: leave out stream")
        return self._tables

    def bootstrap(
        self, samples: int, *, seed: int = 0, kind: Kind | None = None
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Draw bootstrap samples of the training rows: as many as there are, with replacement.

        Where targets are classes and `stratify` is set, each class is resampled by itself and keeps its number of rows.
        The validation split is that of the table, in all samples.

        Args:
            samples: how many, at least 1.
            seed: 0 or more; sample i depends on seed and i alone.
            kind: of the loss; none: guessed from the target.

        Returns:
            (training, validation) rows of each sample, counted from 0 in the source, ascending; rows train as often as
            they were drawn. `fold` and `fit_many` take them with `replacement=True`.

        Raises:
            DataError: for fewer than 2 training rows; for streamed tables, and where validation has a table of its own.

        Reference: Efron (1979), doi:10.1214/aos/1176344552.

        >>> from torchplug import TabularData
        >>> [(len(training), len(set(training)) < 90) for training, _ in TabularData("iris").bootstrap(2)]
        [(90, True), (90, True)]
        """
        return self._in_memory().bootstrap(kind or self.guess_kind()[0], samples, seed)

    def fold(self, training: Any, validation: Any, *, replacement: bool = False) -> Self:
        """A copy of these tables with other rows for training and validation, and none for test.

        All that is learned from data is learned from these training rows. A table is read once for all folds.

        Args:
            training: which rows of the source, counted from 0, (n,) whole numbers; rows without target are left out.
            validation: the same for validation; may be empty.
            replacement: whether rows may train several times, as in a bootstrap sample.

        Raises:
            DataError: for rows that do not exist, occur twice or in both; for streamed tables, and where validation has
                a table of its own.
        """
        found, tables = self.copied(), self._in_memory()
        found._tables = tables.divided(DrawnRows.of(training, validation, replacement))
        found.sources = {"source": self.sources["source"]}
        return found

    def copied(self) -> Self:
        """A copy for which nothing is prepared yet; tables that are open are shared."""
        found = copy.copy(self)
        vars(found).pop("fingerprints", None)
        found.trainer = None
        found.preprocessing = found._prepared = found._prediction = None
        found.notes, found.test_notes, found._request = [], [], DataRequirements()
        return found
