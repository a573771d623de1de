"""The data module for tables: read, split, encode, load."""

from __future__ import annotations

import operator
import os
from typing import Any, Literal, get_args

import polars as pl
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from torchplug.data.columns import Columns, complete_rows
from torchplug.data.loaders import Loader
from torchplug.data.parts import PARTS, Part, Rows, Splitting, balance, check_ratios, sample_weights
from torchplug.errors import ConfigurationError, DataError
from torchplug.preprocessing import DataRequest, Impute, Preprocessing, TargetReading, read_columns, read_target
from torchplug.preprocessing.features import IMPUTE_REMEDY, refuse_missing
from torchplug.preprocessing.target import TargetCoding
from torchplug.tables import BUNDLED, describe, enumerate_names, fingerprint, read, require_columns

_EVALUATION_ROWS = 1024
"""Evaluation has no step whose size matters: its batches are at least this large."""

Name = Literal["train", "validation", "test"]


class TabularData(LightningDataModule):
    """A table for training, validation, test and prediction.

    Everything that is learned from the data (levels, fill values, mean and standard deviation, classes) is learned from
    the training part alone, and travels with the model: a checkpoint predicts without this object. Rows count from 1
    in messages.

    Args:
        source: diabetes, breast_cancer, wine, iris or digits; a CSV or Parquet file; or, in Python, a polars or pandas
            frame, an array or tensor (columns x0, x1, …), or a pair (X, y).
        target: the column to predict, or several; bundled sets and pairs know theirs.
        features: the columns to predict from; none given: all that have no other role.
        exclude: columns to leave out of the features.
        weights: a column of positive sample weights; they are scaled to mean 1 on each part.
        class_weight: "balanced" multiplies training weights by n/(c·n_c), c classes of n_c rows each, and scales them
            to mean 1 again; evaluation keeps the plain weights.
        validation: a table or file of its own for validation; its rows take no share of the source, and the ratios
            of the other parts grow in proportion.
        test: the same for the test part.
        split_column: a column that says train, validation or test in each row.
        group: a column whose equal values stay in one part; the ratios then hold as nearly as whole groups allow.
        time: a column along which the earliest rows train and the latest test.
        split: ratios of training, validation and test, adding up to 1; missing ones are 0, and [1, 0, 0] trains on
            every row.
        stratify: whether a random split keeps each class's share in every part; regression is split plainly.
        seed: of split and shuffling, 0 or more.
        encode: "onehot" gives every category a feature, "reference" all but the first; "auto" leaves it to the model
            (reference for a linear one with bias).
        unseen: "error" refuses a category that training never saw; "other" adds a feature `column=other`, which such
            categories share with those that training saw once.
        impute: "mean", "median" or "most_frequent" of the training part for missing numbers (categories: always the
            most frequent), "drop" for leaving out their rows; none: missing values are refused.
        standardize: whether features are brought to mean 0 and standard deviation 1; the 0/1 features of categories
            too, so that a penalty weighs alike on all coefficients.
        standardize_target: the same for regression targets; "auto" leaves it to the model (on for networks, off for
            linear ones). Predictions and metrics are in original units either way.
        batch_size: rows per rank and batch, at least 1, or "full".
        shuffle: whether each epoch draws a new order.

    Raises:
        DataError: for settings that cannot work; for data that cannot be used, when they are read (`prepare`).
    """

    def __init__(
        self,
        source: Any,
        target: list[str] | str | None = None,
        *,
        features: list[str] | None = None,
        exclude: list[str] | None = None,
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
        unseen: Literal["error", "other"] = "error",
        impute: Impute | None = None,
        standardize: bool = True,
        standardize_target: bool | Literal["auto"] = "auto",
        batch_size: int | Literal["full"] = 32,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        # plain types only: numpy scalars, paths and tables make a checkpoint unreadable under weights_only
        source, validation, test = (
            os.fspath(s) if isinstance(s, os.PathLike) else s for s in (source, validation, test)
        )
        split = list(check_ratios(split))
        batch_size = _batch_size(batch_size)
        seed = operator.index(seed)
        tables = {"source": source, "validation": validation, "test": test}
        self.save_hyperparameters(ignore=[key for key, s in tables.items() if not isinstance(s, str | None)])
        if source is None:
            raise DataError(f"no source: give a file, a table, or a bundled name ({', '.join(BUNDLED)})")
        _refuse_choice("class_weight", class_weight, ("balanced", None))
        _refuse_choice("encode", encode, ("auto", "onehot", "reference"))
        _refuse_choice("unseen", unseen, ("error", "other"))
        _refuse_choice("impute", impute, (*get_args(Impute), None))
        _refuse_choice("standardize_target", standardize_target, (True, False, "auto"))
        if split_column is not None and (validation is not None or test is not None):
            raise DataError("split_column already says which rows validate and test: give no files for these parts")
        self.sources = {key: s for key, s in tables.items() if s is not None}
        self.splitting = Splitting(check_ratios(split), stratify, seed, split_column, group, time)
        dividing = [column for column in (split_column, group, time) if column is not None]
        named = [target] if isinstance(target, str) else target or []
        self.columns = Columns(named, features, exclude or [], weights, dividing)
        self.class_weight = class_weight
        self.seed = seed
        self.encode = encode
        self.unseen = unseen
        self.impute: Impute | None = impute
        self.standardize = standardize
        self.standardize_target = standardize_target
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.preprocessing: Preprocessing | None = None
        self.notes: list[str] = []
        self._request: DataRequest | None = None
        self._parts: dict[str, Part] = {}
        self._frames: dict[str, pl.DataFrame] = {}
        self._prediction: Tensor | None = None
        self._val_limit: int | float | None = None

    # ------------------------------------------------------------------ what is known after prepare

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tables' content, as hexadecimal text."""
        return fingerprint(*(self._frame(key) for key in self.sources))

    @property
    def sizes(self) -> dict[str, int]:
        """The number of rows of training, validation and test."""
        return {name: len(part.features) for name, part in self._parts.items()}

    @property
    def training_target(self) -> Tensor:
        """The training part's target as the loss gets it, in float64 or int64."""
        return self._part("train").target

    def frame_of(self, part: Name) -> pl.DataFrame:
        """The raw rows of a part, in the order in which evaluation sees them."""
        return self._part(part).frame

    def _part(self, name: str) -> Part:
        if name not in self._parts:
            raise ConfigurationError("the data have not been read yet: call prepare(request), or fit")
        return self._parts[name]

    # ------------------------------------------------------------------ preparing

    def setup(self, stage: str) -> None:
        """Read and encode what the stage needs; Lightning calls it on every rank."""
        module: Any = self.trainer.lightning_module if self.trainer is not None else None
        request = module.data_request() if hasattr(module, "data_request") else DataRequest()
        if stage == "predict":
            self._prepare_prediction(request)
            return
        self.prepare(request)
        if hasattr(module, "adopt"):
            module.adopt(self)
        if stage == "fit" and not self.sizes["validation"] and self.trainer is not None:
            # no loader is how the trainer would be told, and it warns of one; so it is told not to ask
            self._val_limit, self.trainer.limit_val_batches = self.trainer.limit_val_batches, 0

    def teardown(self, stage: str) -> None:
        """Leave the trainer as it was."""
        if stage == "fit" and self._val_limit is not None and self.trainer is not None:
            self.trainer.limit_val_batches, self._val_limit = self._val_limit, None

    def prepare(self, request: DataRequest) -> None:
        """Read, split, fit and encode; nothing is done again for the same request.

        Args:
            request: what the module asks for.

        Raises:
            DataError: if the data cannot be used, in one line that names column, row and remedy.
        """
        carried = request.preprocessing
        if self._parts and (request == self._request or (carried is not None and carried is self.preprocessing)):
            return
        self.notes = []
        where, whole = describe(self.sources["source"]), self._frame("source")
        target = self.columns.target_of(self.sources["source"], whole)
        features = carried.columns if carried is not None else self.columns.features_of(whole, target, where)
        frames = {key: self._usable(key, features, target) for key in self.sources}
        frame, rows = frames["source"]
        reading = _carried_reading(carried) if carried is not None else self._read_target(request, target, frame, rows)
        labels = frame[target[0]] if reading.labels else None
        divided = self.splitting.divide(frame, labels, self.sources.keys() - {"source"}, where)
        train = divided[0]
        preprocessing = carried or self._fit(request, reading, frame, features, train, where)
        encoded = {key: self._encode(preprocessing, key, *frames[key]) for key in self.sources}
        parts = {name: _take(encoded["source"], part) for name, part in zip(PARTS, divided, strict=True)}
        parts |= {name: encoded[name] for name in PARTS if name in encoded}
        self._parts = {name: self._weigh(name, part, preprocessing) for name, part in parts.items()}
        self.preprocessing, self._request = preprocessing, request
        self._remark()

    def _frame(self, key: str) -> pl.DataFrame:
        if key not in self._frames:
            self._frames[key] = read(self.sources[key])
        return self._frames[key]

    def _usable(self, key: str, features: list[str], target: list[str]) -> tuple[pl.DataFrame, Rows | None]:
        """A table that has all columns, without the rows that `impute: drop` leaves out, and which rows are left."""
        where, frame = describe(self.sources[key]), self._frame(key)
        dividing = self.columns.dividing if key == "source" else ()
        weights = [self.columns.weights] if self.columns.weights else []
        require_columns(frame, [*features, *target, *weights, *dividing], where)
        if self.impute != "drop":
            return frame, None
        rows = complete_rows(frame, features, target, where)
        if len(rows) < frame.height:
            self.notes.append(f"{where}: {frame.height - len(rows)} of {frame.height} rows dropped for missing values")
        return frame[rows], rows

    def _read_target(
        self, request: DataRequest, target: list[str], frame: pl.DataFrame, rows: Rows | None
    ) -> TargetReading:
        where = describe(self.sources["source"])
        if frame.height < 2:
            raise DataError(f"{where} has one row to learn from: training needs at least two")
        reading = read_target(frame, target, request.kind, request.loss, where, rows)
        if self.standardize_target is True and reading.kind != "regression":
            raise DataError(
                f"standardize_target is for regression, and {request.loss or 'the loss'} is for {reading.kind} targets"
            )
        if self.class_weight and not reading.labels:
            raise DataError(f"{where}: class_weight needs class labels, and target {enumerate_names(target)} has none")
        return reading

    def _fit(
        self,
        request: DataRequest,
        reading: TargetReading,
        frame: pl.DataFrame,
        features: list[str],
        train: Rows,
        where: str,
    ) -> Preprocessing:
        table = read_columns(frame, features, where)
        if self.impute is None:
            refuse_missing(table.get_columns(), where, IMPUTE_REMEDY)
        scaled = request.standardize_target if self.standardize_target == "auto" else bool(self.standardize_target)
        coding = TargetCoding.fit(frame[train], reading, standardize=scaled, center=request.center, where=where)
        return Preprocessing.fit(
            table[train],
            coding,
            center=request.center,
            standardize=self.standardize,
            reference=request.reference if self.encode == "auto" else self.encode == "reference",
            pool=self.unseen == "other",
            impute=self.impute,
        )

    def _encode(self, preprocessing: Preprocessing, key: str, frame: pl.DataFrame, rows: Rows | None) -> Part:
        where = describe(self.sources[key])
        weight = torch.ones(frame.height, dtype=torch.float64)
        if self.columns.weights is not None:
            weight = sample_weights(frame[self.columns.weights], where, rows)
        features, target = preprocessing.features(frame, where, rows), preprocessing.target(frame, where, rows)
        return Part(frame, features, target, weight)

    def _weigh(self, name: str, part: Part, preprocessing: Preprocessing) -> Part:
        """The part with its weights scaled to mean 1, balanced over classes first where that is asked for."""
        weight, classes = part.weight, preprocessing.info.classes
        if name == "train" and self.class_weight and classes is not None:
            # scaled before too, so that the product's size does not hang on the unit of the weights
            weight = weight / weight.mean() * balance(part.target, len(classes))
        return Part(part.frame, part.features, part.target, weight / weight.mean() if len(weight) else weight)

    def _remark(self) -> None:
        """Say what the user should know and did not ask."""
        assert self.preprocessing is not None, "remarks are about fitted data"
        flat = [
            n for n, silent in zip(self.preprocessing.feature_names, self.preprocessing.silent, strict=True) if silent
        ]
        if flat:
            self.notes.append(f"constant in the training part, so without effect: {enumerate_names(flat)}")
        if not self.sizes["validation"]:
            self.notes.append(f"all {self.sizes['train']} training rows are trained on, and nothing is validated")
        for note in self.notes:
            rank_zero_info(note)

    def _prepare_prediction(self, request: DataRequest) -> None:
        if request.preprocessing is None:
            raise ConfigurationError("there is nothing to predict with: fit first, or load a checkpoint")
        self.preprocessing = request.preprocessing
        self._prediction = self.preprocessing.features(self._frame("source"), describe(self.sources["source"]))

    # ------------------------------------------------------------------ loading

    def train_dataloader(self) -> Loader:
        """Batches of this rank: the training part."""
        return self._loader("train")

    def val_dataloader(self) -> Loader:
        """Batches of this rank: the validation part."""
        if not self.sizes["validation"]:
            raise DataError("there is no validation part: split gives it no row")
        return self._loader("validation")

    def test_dataloader(self) -> Loader:
        """Batches of this rank: the test part."""
        if not self.sizes["test"]:
            raise DataError("there is no test part: split gives it no row")
        return self._loader("test")

    def predict_dataloader(self) -> Loader:
        """Batches of this rank: all rows of the source; its `rows(batch)` says which rows they are."""
        assert self._prediction is not None, "setup comes before the loaders"
        features = self._prediction
        return self._build_loader(Part(self._frame("source"), features, features[:, :0], torch.ones(len(features))))

    def _loader(self, name: str) -> Loader:
        return self._build_loader(self._part(name), training=name == "train")

    def _build_loader(self, part: Part, training: bool = False) -> Loader:
        """A loader of tensors in the trainer's precision."""
        dtype = torch.float64 if self.trainer is not None and self.trainer.precision == "64-true" else torch.float32
        features = part.features.to(dtype)
        if not torch.isfinite(features).all():
            raise DataError("a feature is too large for float32: standardize, or train with precision 64-true")
        target = part.target.to(dtype) if part.target.is_floating_point() else part.target
        tensors = (features, target, part.weight.to(dtype))
        return self._training_loader(*tensors) if training else self._evaluation_loader(*tensors)

    def _training_loader(self, *tensors: Tensor) -> Loader:
        trainer: Any = self.trainer
        if trainer is None:
            return Loader(*tensors, batch_size=self.batch_size, shuffle=self.shuffle, seed=self.seed)
        return Loader(
            *tensors,
            batch_size=self.batch_size,
            shuffle=self.shuffle and not trainer.overfit_batches,
            seed=self.seed,
            rank=trainer.global_rank,
            world=trainer.world_size,
            window=lambda: trainer.accumulate_grad_batches,
            limit=lambda: trainer.num_training_batches,
            # Lightning repeats a batch that was interrupted: what counts is what it has processed
            consumed=lambda: trainer.fit_loop.epoch_loop.batch_progress.current.processed,
        )

    def _evaluation_loader(self, *tensors: Tensor) -> Loader:
        size: int | Literal["full"] = "full" if self.batch_size == "full" else max(self.batch_size, _EVALUATION_ROWS)
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        return Loader(*tensors, batch_size=size, rank=rank, world=world)


def _take(part: Part, rows: Rows) -> Part:
    index = torch.from_numpy(rows)
    return Part(part.frame[rows], part.features[index], part.target[index], part.weight[index])


def _carried_reading(preprocessing: Preprocessing) -> TargetReading:
    coding = preprocessing.target_coding
    return TargetReading(coding.kind, coding.info.columns, coding.labels)


def _batch_size(value: Any) -> int | Literal["full"]:
    if value == "full":
        return "full"
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < 1:
        raise DataError(f"batch_size must be a whole number of at least 1, or full, not {value!r}")
    return operator.index(value)


def _refuse_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        shown = enumerate_names("none" if choice is None else choice for choice in allowed)
        raise DataError(f"{name} must be one of {shown}, not {value!r}")
