"""The data module for tables: read, split, encode, load."""

from __future__ import annotations

import functools
import hashlib
import operator
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor

from torchplug.batch import SplitName, TrainingSet
from torchplug.components.contracts import Loss
from torchplug.data.batch_sizes import BatchSize, batch_count, check_batch_size, evaluation_size
from torchplug.data.columns import Columns
from torchplug.data.foldable import Foldable
from torchplug.data.in_memory import InMemoryTables
from torchplug.data.loaders import Batches, FullBatchLoader
from torchplug.data.notes import training_notes
from torchplug.data.precision import refuse_range
from torchplug.data.prepared import Prepared, Split, Tables
from torchplug.data.settings import TableSettings
from torchplug.data.splitting import Splitting, check_ratios
from torchplug.data.streamed import StreamedTables
from torchplug.data.trainer_options import is_double, rank_options, training_options
from torchplug.errors import ConfigurationError, DataError
from torchplug.preprocessing import DataRequirements, HandleUnknown, Impute, Preprocessing, Scale
from torchplug.preprocessing.dates import Dates
from torchplug.tables import CsvFormat


class TabularData(Foldable):
    """A table for training, validation, test and prediction.

    Everything that is fitted (levels, fill values, mean and standard deviation, classes) is fitted on the training
    split alone and saved with the model: a checkpoint predicts without this object. Rows are counted from 1 in
    messages.

    Args:
        source: diabetes, breast_cancer, wine, iris or digits; a CSV or Parquet file; or, in Python, a polars or pandas
            frame, an array or tensor (columns x0, x1, …), or a pair (X, y). Tables in memory are not copied, and large
            Parquet files are read in place, again for raw rows: neither may change during the fit.
        target: the column to predict, or several; not needed for bundled sets and pairs.
        features: the columns to predict from; none: all that have no other role.
        exclude: columns to leave out of the features.
        categories: columns that hold categories, whatever their values are.
        separator: one character between the fields of CSV files; none: detected.
        decimal: "." or ",", the decimal mark in CSV files; none: detected.
        encoding: of CSV files, by Python's name for it; none: detected.
        missing: words for a missing value in CSV files, in addition to the usual ones (NA, n/a, ?, None and so on).
        dayfirst: whether 3/4/2020 in a CSV file is in April; none: refused if no date of the column decides.
        dates: "number" makes a date one feature, the days since the first of the training split (times of day: the
            hours since midnight); "cyclic" a sine and a cosine each for its position in the year, the week and the day.
        weights: a column of positive sample weights; they are scaled to mean 1 on each split.
        class_weight: "balanced" multiplies training weights by n/(c·n_c), c classes of n_c rows each, and scales them
            to mean 1 again; evaluation uses the plain weights.
        validation: a separate table or file for validation; the source is then divided among the other splits in
            proportion to their ratios.
        test: as `validation`, for the test split.
        split_column: a column that says train, validation or test in each row.
        group: a column whose equal values stay in one split; the ratios then hold as nearly as whole groups allow.
        time: a column along which the earliest rows train and the latest test.
        split: ratios of training, validation and test, adding up to 1; missing ones are 0, and [1, 0, 0] trains on
            every row.
        stratify: whether a random split preserves class proportions; it has no effect on regression.
        seed: of split and shuffling, 0 or more.
        encode: "onehot" gives every category a feature, "reference" all but the first; "auto" depends on the model
            (reference for a linear one with bias).
        handle_unknown: treatment of categories absent from the training split. "pool": they share a feature
            `column=other` with those that occur once in it (if there are none, they have no feature); "ignore": they
            have no feature; "error": they are refused.
        max_categories: maximum number of features per categorical column, at least 2; the rarest categories share
            `column=other`. None: no bound.
        impute: treatment of missing feature values. "auto" imputes the median of the training split (streamed: the
            mean), or the most frequent category, and adds a 0/1 feature `column=missing` for each column with missing
            values in the training split; "mean", "median" and "most_frequent" impute numbers as named, without
            such a feature; "drop" excludes rows with missing values from training and evaluation, and predicts for
            them as "auto" does; "error" refuses them. Rows without target are always left out.
        scale: how features are scaled, the 0/1 features of categories included, so that a penalty applies equally to
            all coefficients. "standard": to mean 0 and standard deviation 1; "robust": (x − median) divided by the
            interquartile range, smoothly clipped to ±3, for outliers; "quantile": numbers to the quantiles of a normal
            distribution, and 0/1 features as by "standard"; "none": not at all.
        standardize_target: whether regression targets are standardized; "auto" depends on the model (on for networks,
            off for linear ones). Predictions and metrics are always in original units.
        clip_target: whether predictions of a regression target are clipped to the range of each of its columns in the
            training split; also where they are evaluated, not in the training loss. A model that must extrapolate,
            such as along time, is worse for it. True is refused for classes and counts. "auto" clips where the target
            is numbers and rows are not split by `time`.
        batch_size: rows per rank and batch, at least 1, or "full". Full-batch optimizers do not use it.
        shuffle: whether each epoch draws a new order.
        stream: whether tables larger than memory stay on disk: they must be Parquet files, which are read in pieces.
            Rows are assigned to splits one by one, so that the ratios hold approximately and classes are not
            stratified; group, time, the median, and robust and quantile scaling are not available. Shuffling draws
            pieces of the file, and rows within a few of these. Memory depends on the size of the file's row groups, not
            on the number of rows.

    Raises:
        DataError: for settings that cannot work; in `prepare`, for data that cannot be used.
    """

    def __init__(
        self,
        source: Any,
        target: list[str] | str | None = None,
        *,
        features: list[str] | None = None,
        exclude: list[str] | None = None,
        categories: list[str] | None = None,
        separator: str | None = None,
        decimal: Literal[".", ","] | None = None,
        encoding: str | None = None,
        missing: list[str | int | float] | None = None,
        dayfirst: bool | None = None,
        dates: Dates = "number",
        weights: str | None = None,
        class_weight: Literal["balanced"] | None = None,
        validation: Any = None,
        test: Any = None,
        split_column: str | None = None,
        group: str | None = None,
        time: str | None = None,
        split: list[float] | tuple[float, ...] = (0.6, 0.2, 0.2),
        stratify: bool = True,
        seed: int = 0,
        encode: Literal["auto", "onehot", "reference"] = "auto",
        handle_unknown: HandleUnknown = "pool",
        max_categories: int | None = 100,
        impute: Impute = "auto",
        scale: Scale = "standard",
        standardize_target: bool | Literal["auto"] = "auto",
        clip_target: bool | Literal["auto"] = False,
        batch_size: BatchSize = 32,
        shuffle: bool = True,
        stream: bool = False,
    ) -> None:
        super().__init__()
        # plain types only: numpy scalars, paths and tables make a checkpoint unreadable under weights_only
        source, validation, test = (
            os.fspath(s) if isinstance(s, os.PathLike) else s for s in (source, validation, test)
        )
        ratios = check_ratios(split)
        split = list(ratios)
        batch_size = check_batch_size(batch_size)
        seed = operator.index(seed)
        max_categories = None if max_categories is None else operator.index(max_categories)
        tables = {"source": source, "validation": validation, "test": test}
        self.save_hyperparameters(ignore=[key for key, s in tables.items() if not isinstance(s, str | None)])
        dividing = [column for column in (split_column, group, time) if column is not None]
        named = [target] if isinstance(target, str) else target or []
        settings = TableSettings(
            sources={key: s for key, s in tables.items() if s is not None},
            splitting=Splitting(ratios, stratify, seed, split_column, group, time),
            form=CsvFormat(separator, decimal, encoding, tuple(map(str, missing or ())), dayfirst),
            dates=dates,
            columns=Columns(named, features, exclude or [], weights, dividing, categories or []),
            class_weight=class_weight,
            encode=encode,
            handle_unknown=handle_unknown,
            max_categories=max_categories,
            impute=impute,
            scale=scale,
            standardize_target=standardize_target,
            clip_target=clip_target,
        )
        self.sources = settings.sources
        self.form = settings.form
        self.seed = seed
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.stream = stream
        self.preprocessing: Preprocessing | None = None
        self.notes: list[str] = []
        self.test_notes: list[str] = []
        self._tables: Tables = StreamedTables(settings) if stream else InMemoryTables(settings)
        self._request = DataRequirements()
        self._prepared: Prepared | None = None
        self._prediction: Split | None = None
        self._val_limit: int | float | None = None

    # ------------------------------------------------------------------ what is known after prepare

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each table's content, as hexadecimal text: of `source`, and of `validation` and `test` where these
        are tables of their own. Streamed tables have others than those in memory.
        """
        return self._tables.fingerprints()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content of all tables, as hexadecimal text; of a single one, its own."""
        first, *others = self.fingerprints.values()
        return hashlib.sha256("".join([first, *others]).encode()).hexdigest() if others else first

    def state_dict(self) -> dict[str, Any]:
        """Which tables these are: a checkpoint carries it, so that later ones can be compared with them."""
        return {"fingerprints": self.fingerprints, "heights": self._tables.heights, "streamed": self.stream}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: the tables are given, and recipes compare them."""

    @property
    def sizes(self) -> dict[str, int]:
        """The number of rows of training, validation and test."""
        return {name: split.samples for name, split in self._prepared.splits.items()} if self._prepared else {}

    @property
    def target_scale(self) -> tuple[Tensor, Tensor] | None:
        """Mean and population standard deviation of the training target's columns, (k,) float64 each, in its own units;
        None where the target is no number.
        """
        split = self.rows_of("train")
        assert self.preprocessing is not None, "splits come with preprocessing"
        return split.target_scale(self.preprocessing.target_coding)

    def check_target(self, loss: Loss) -> None:
        """Check the training target, as a loss will get it, by the loss's own rule.

        Raises:
            ValueError: as the loss words it, if a value is outside its domain.
        """
        for target in self.rows_of("train").targets():
            loss.check(target)

    @property
    def training_set(self) -> TrainingSet:
        """The training split, read a block at a time.

        Raises:
            ConfigurationError: if the data have not been read.
        """
        return self.rows_of("train")

    def frame_of(self, split: SplitName) -> pl.DataFrame:
        """Return the raw rows of a split, in the order of evaluation.

        Raises:
            ConfigurationError: if the data have not been read, or are streamed.
        """
        return self.rows_of(split).frame

    def row_numbers(self, split: SplitName) -> NDArray[np.int64]:
        """The rows of a split, counted from 0 in the table that has them, in the order of evaluation.

        Raises:
            ConfigurationError: if the data have not been read.
        """
        return np.concatenate(list(self.rows_of(split).row_numbers()))

    def rows_of(self, split: SplitName) -> Split:
        """Return the encoded rows of a split, in the order of evaluation.

        Raises:
            ConfigurationError: if the data have not been read.
        """
        if self._prepared is None:
            raise ConfigurationError("the data have not been read yet: call prepare(request), or fit")
        return self._prepared.splits[split]

    def sampled_features(self, count: int) -> Tensor:
        """Return the features (m, d) of about `count` rows that are spread evenly over the training split, or of all.

        Raises:
            ConfigurationError: if the data have not been read.
        """
        return self.rows_of("train").sampled_features(count, self._precision(self._request))

    # ------------------------------------------------------------------ preparing

    def setup(self, stage: str) -> None:
        """Read and encode what the stage needs; Lightning calls it on every rank."""
        module: Any = self.trainer.lightning_module if self.trainer is not None else None
        request = module.data_request() if hasattr(module, "data_request") else DataRequirements()
        if stage == "predict":
            if request.preprocessing is None:
                raise ConfigurationError("there is nothing to predict with: fit first, or load a checkpoint")
            self.preprocessing, self._request = request.preprocessing, request
            self._prediction = self._tables.prediction(request.preprocessing, self._precision(request))
            return
        self.prepare(request)
        if stage == "fit":
            self.refuse_range()
        if hasattr(module, "configure"):
            module.configure(self)
        if stage == "fit" and not self.sizes["validation"] and self.trainer is not None:
            # no loader is how the trainer would be told, and it warns of one; so it is told not to ask
            self._val_limit, self.trainer.limit_val_batches = self.trainer.limit_val_batches, 0

    def teardown(self, stage: str) -> None:
        """Leave the trainer as it was."""
        if stage == "fit" and self._val_limit is not None and self.trainer is not None:
            self.trainer.limit_val_batches, self._val_limit = self._val_limit, None

    def adopt_batch_size(self, settings: Mapping[str, Any]) -> bool:
        """Use the batch size of other settings, if these differ in nothing else; return whether it did.

        Args:
            settings: parameters of this class.
        """
        same = {"batch_size": None, "split": list(settings["split"])}
        if {**self.hparams, "batch_size": None} != {**settings, **same}:
            return False
        self.batch_size = self.hparams["batch_size"] = check_batch_size(settings["batch_size"])
        return True

    def prepare(self, request: DataRequirements) -> None:
        """Read, split, fit and encode; nothing is done again for the same request.

        Args:
            request: what the module asks for.

        Raises:
            DataError: if the data cannot be used, in one line that names column, row and remedy.
        """
        carried = request.preprocessing
        known = replace(self._request, loss=request.loss)  # which is for messages
        if self._prepared and (request == known or (carried is not None and carried is self.preprocessing)):
            return
        if self.stream and self.batch_size == "full" and not request.full_batch:
            raise DataError("stream never holds all rows, so batch_size cannot be full: give a number of rows")
        self._prepared = self._tables.prepare(request, self._precision(request))
        self.preprocessing, self._request = self._prepared.preprocessing, request
        unused = self.batch_size if request.full_batch and self.batch_size != "full" else None
        self.test_notes = self._prepared.test_notes
        self.notes = [*self._prepared.notes, *training_notes(self.preprocessing, self.sizes, unused)]
        for note in self.notes:
            rank_zero_info(note)

    def refuse_range(self) -> None:
        """Refuse a target that the network's single precision takes for 0 or infinity, or its squares, as losses do."""
        if (scale := self.target_scale) is not None and not is_double(self.trainer):
            assert self.preprocessing is not None, "it is prepared"
            refuse_range(self.preprocessing.target_coding, *scale, squared=not self._request.full_batch)

    # ------------------------------------------------------------------ loading

    def train_dataloader(self) -> Batches | FullBatchLoader:
        """Batches of this rank, or the whole training split for a full-batch optimizer."""
        split = self.rows_of("train")
        if self._request.full_batch:
            return FullBatchLoader(split)
        options = training_options(self.trainer, self.shuffle)
        return split.loader(self._precision(self._request), batch_size=self.batch_size, seed=self.seed, **options)

    def val_dataloader(self) -> Batches:
        """Batches of this rank: the validation split."""
        return self._evaluation_loader(self._nonempty("validation"))

    def test_dataloader(self) -> Batches:
        """Batches of this rank: the test split."""
        return self._evaluation_loader(self._nonempty("test"))

    def _nonempty(self, name: SplitName) -> Split:
        if not self.sizes[name]:
            raise DataError(f"there is no {name} split: split gives it no row")
        return self.rows_of(name)

    def all_batches(self, split: SplitName) -> Batches:
        """Batches of all rows of a split, in the order of evaluation, whatever the rank.

        Raises:
            ConfigurationError: if the data have not been read.
        """
        size = evaluation_size(self.batch_size, self.stream)
        return self.rows_of(split).loader(self._precision(self._request), batch_size=size)

    def predict_dataloader(self) -> Batches:
        """Batches of this rank: all rows of the source; its `rows(batch)` says which rows they are."""
        assert self._prediction is not None, "setup comes before the loaders"
        return self._evaluation_loader(self._prediction)

    def batches(self, split: SplitName, world: int = 1) -> int:
        """How many batches of a split an epoch has on each rank.

        Args:
            split: one that has been read.
            world: the number of ranks.
        """
        if split != "train":
            return batch_count(self.sizes[split], evaluation_size(self.batch_size, self.stream), world)
        return batch_count(self.sizes[split], "full" if self._request.full_batch else self.batch_size, world)

    def _evaluation_loader(self, split: Split) -> Batches:
        size = evaluation_size(self.batch_size, self.stream)
        return split.loader(self._precision(self._request), batch_size=size, **rank_options(self.trainer))

    def _precision(self, request: DataRequirements) -> torch.dtype:
        """What features are given in: double where the trainer computes so, or the optimizer does whatever it says."""
        return torch.float64 if is_double(self.trainer) or request.full_batch else torch.float32
