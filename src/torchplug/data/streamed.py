"""Tables larger than memory: Parquet files, read in blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchplug.batch import Rows
from torchplug.data.encoding import Encoder, FeatureEncoder, RowEncoder, survey
from torchplug.data.far_rows import far_training_targets, far_validation_features, far_validation_targets
from torchplug.data.far_values import FarValues
from torchplug.data.fit import fit_streamed
from torchplug.data.notes import Notes, SubstitutionNotes, Topic, counted_times, left_out_rows, shared_features
from torchplug.data.parquet import ParquetTable
from torchplug.data.prepared import Prepared, Split
from torchplug.data.selection import Selection
from torchplug.data.settings import TableSettings
from torchplug.data.splitting import SPLITS
from torchplug.data.streamed_loader import StreamedLoader
from torchplug.errors import ConfigurationError, DataError
from torchplug.preprocessing import DataRequirements, EncodingRules, Preprocessing
from torchplug.preprocessing.blocks import block_rows, intervals
from torchplug.preprocessing.moments import Moments
from torchplug.preprocessing.target import TargetCoding
from torchplug.tables import require_columns, types_of

_SAMPLED_RUNS = 16
"""In how many places of a file rows are read for a sample."""


class StreamedSplit(Split):
    """A split of a file, whose rows are encoded when they are read; the last block is cached.

    Args:
        selection: the file's rows.
        split: the split, as an index into `SPLITS`.
        encoder: of its rows.
        blocks: (blocks,) number of the split's rows in each block of the file, cut by the encoder's `size`.
        moments: of the encoded target; None if it is not numeric.

    Attributes:
        starts: (blocks + 1,) where in the split each block begins.
    """

    def __init__(
        self, selection: Selection, split: int, encoder: Encoder, blocks: Sequence[int], moments: Moments | None = None
    ) -> None:
        self.starts = np.concatenate([[0], np.cumsum(blocks, dtype=np.int64)])
        self.samples = int(self.starts[-1])
        self._selection = selection
        self._split = split
        self.feature_names = encoder.feature_names
        self._encoder = encoder
        self._moments = moments
        self._kept: tuple[int, Rows] | None = None

    @property
    def frame(self) -> pl.DataFrame:
        """Nothing: the rows are not held in memory."""
        path = self._selection.table.path
        raise ConfigurationError(f"streamed rows are not held in memory: read {path} with polars.scan_parquet")

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Where the rows stand in the file, a block at a time."""
        for block in self._selection.blocks(self._encoder.size, []):
            yield block.of(self._split).rows

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`; going on where the last read ended costs least."""
        found: list[Rows] = []
        position = min(int(np.searchsorted(self.starts, start, side="right")) - 1, len(self.starts) - 2)
        while start < stop or not found:
            first, last = int(self.starts[position]), min(stop, int(self.starts[position + 1]))
            block = self._encoded(position)
            found.append(Rows(*(tensor[start - first : last - first] for tensor in block)))
            start, position = last, position + 1
        return found[0] if len(found) == 1 else Rows(*(torch.cat(tensors) for tensors in zip(*found, strict=True)))

    def in_blocks(self) -> Iterator[Rows]:
        """All rows, as they are read."""
        for start, stop in itertools.pairwise(self.starts.tolist()):
            if start < stop:
                yield self.read(start, stop)

    def sampled_features(self, count: int, dtype: torch.dtype) -> Tensor:
        """Features of evenly spaced runs of rows, as each run costs a block."""
        n, length = self.samples, -(-count // _SAMPLED_RUNS)
        runs = [(0, n)]
        if n > count:
            starts = [run * (n - length) // (_SAMPLED_RUNS - 1) for run in range(_SAMPLED_RUNS)]
            runs = [(start, start + length) for start in starts]
        return torch.cat([self.read(start, stop).features for start, stop in runs]).to(dtype)

    def targets(self) -> Iterator[Tensor]:
        """The target, a block at a time, without the features."""
        for block in self._selection.blocks(self._encoder.size, self._encoder.target_columns):
            yield self._encoder.target(block.of(self._split))

    def target_scale(self, coding: TargetCoding) -> tuple[Tensor, Tensor] | None:
        """Mean and population standard deviation of a numeric target."""
        if self._moments is None:
            return None
        mean, spread = (torch.from_numpy(statistic) for statistic in self._moments.mean_and_spread())
        return coding.original_units(mean.unsqueeze(0)).squeeze(0), spread * coding.scale

    def loader(self, dtype: torch.dtype, **options: Any) -> StreamedLoader:
        """Batches that are read when they are asked for."""
        return StreamedLoader(self, dtype, **options)

    def _encoded(self, position: int) -> Rows:
        if self._kept is None or self._kept[0] != position:
            self._kept = None  # its memory is free for the next
            size = self._encoder.size
            start, stop = position * size, min((position + 1) * size, self._selection.table.height)
            block = self._selection.read(start, stop, self._encoder.columns).of(self._split)
            self._kept = (position, self._encoder.rows(block))
        return self._kept[1]


class StreamedTables:
    """Parquet files, of which no more than a block is in memory.

    Args:
        settings: the user's choices.

    Raises:
        DataError: for other sources, and for choices that want every row at once.
    """

    def __init__(self, settings: TableSettings) -> None:
        self._settings = settings
        self._tables = {key: ParquetTable(source) for key, source in settings.sources.items()}
        splitting = settings.splitting
        for way, column in (("group", splitting.group), ("time", splitting.time)):
            if column is not None:
                raise DataError(
                    f"{way} needs every row at once, which stream does not hold: write the splits into a column, "
                    "and name it as split_column"
                )
        if settings.impute == "median":
            raise DataError(
                "impute: median needs every value at once, which stream does not hold: use auto, mean or most_frequent"
            )

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each file's content, as hexadecimal text; not that of the same table in memory."""
        return {key: table.fingerprint for key, table in self._tables.items()}

    @property
    def heights(self) -> dict[str, int]:
        """Number of rows of each file, unused ones included."""
        return {key: table.height for key, table in self._tables.items()}

    def targets(self) -> Iterator[pl.DataFrame]:
        """The source's target columns, a block of rows at a time."""
        source = self._tables["source"].typed(self._settings.types({}))
        target = self._settings.columns.target_of(source.path, source.head)
        require_columns(source.head, target, source.path)
        for _, frame in source.blocks(target, block_rows(len(target))):
            yield frame

    def prepare(self, request: DataRequirements, dtype: torch.dtype) -> Prepared:
        """Fit in one pass, and check every row as it will be read in another; features become `dtype` then."""
        settings, carried, notes, of_test = self._settings, request.preprocessing, Notes(), Notes()
        source = self._tables["source"].typed(settings.types(carried.types if carried else {}))
        target = settings.columns.target_of(source.path, source.head)
        features = carried.columns if carried else settings.columns.features_of(source, target, source.path, notes)
        types = settings.types(carried.types if carried else types_of(source.head))
        tables = {key: source if key == "source" else table.typed(types) for key, table in self._tables.items()}
        for key, table in tables.items():
            settings.require(table.head, key, features, target, table.path)
        complete = features if settings.impute == "drop" else []
        source_rows = (settings.splitting, settings.own)
        rules, far = None if carried else settings.rules(request, streamed=True), FarValues()
        preprocessing = carried or fit_streamed(
            settings, request, Selection(source, source_rows, target, complete), features, target, far
        )
        if rules is not None:
            notes.add(Topic.TYPES, [*counted_times(preprocessing), *far.notes])
            notes.add(Topic.CATEGORIES, shared_features(preprocessing, rules))
        splits: dict[str, StreamedSplit] = {}
        for key, table in tables.items():
            selection = Selection(table, source_rows if key == "source" else SPLITS.index(key), target, complete)
            columns = settings.needed_columns(key, features, target)
            splits |= self._survey(key, selection, preprocessing, rules, columns, notes, of_test)
        if rules is not None:
            if rules.scale == "standard":
                blocks = (rows.features for rows in splits["validation"].in_blocks())
                far_rows = far_validation_features(splits["validation"], blocks, preprocessing, splits["train"].samples)
                notes.add(Topic.TYPES, far_rows)
            coding = preprocessing.target_coding
            notes.add(Topic.TYPES, far_training_targets(splits["train"], coding))
            notes.add(Topic.TYPES, far_validation_targets(splits["validation"], splits["train"], coding))
        shares = [split for name, split in splits.items() if name not in settings.own and split.samples]
        drawn = settings.splitting.column is None and len(shares) > 1
        if drawn and settings.splitting.stratify and preprocessing.target_coding.labels:
            notes.add(
                Topic.TRAINING,
                ["stream draws rows one by one, so each class has nearly, not exactly, its share in every split"],
            )
        return Prepared(preprocessing, {name: splits[name] for name in SPLITS}, notes.lines, of_test.lines)

    def _survey(
        self,
        key: str,
        selection: Selection,
        preprocessing: Preprocessing,
        rules: EncodingRules | None,
        columns: Sequence[str],
        notes: Notes,
        of_test: Notes,
    ) -> dict[str, StreamedSplit]:
        """The splits that a file holds."""
        settings, table = self._settings, selection.table
        names = [name for name in SPLITS if name not in settings.own] if key == "source" else [key]
        plain = RowEncoder(settings, preprocessing, columns)
        found = survey(selection, plain, [SPLITS.index(name) for name in names])
        surveys = dict(zip(names, found.splits, strict=True))
        counts = {name: sum(split.blocks) for name, split in surveys.items()}
        if key == "source":
            settings.splitting.refuse_empty([counts.get(name, 0) for name in SPLITS], settings.own, table.path)
        where, incomplete = settings.own_name(key), table.height - sum(counts.values()) - found.without_target
        rows = left_out_rows(found.without_target, incomplete, table.height, selection.target, where)
        notes.add(Topic.ROWS, rows)
        counted = dict(zip(names, found.substitutions, strict=True))
        SubstitutionNotes(preprocessing, rules, where).add(counted, notes, of_test)
        splits: dict[str, StreamedSplit] = {}
        for name, split in surveys.items():
            balanced = name == "train" and settings.class_weight is not None
            encoder = RowEncoder(settings, preprocessing, columns, split.factors(balanced))
            splits[name] = StreamedSplit(selection, SPLITS.index(name), encoder, split.blocks, split.moments)
        return splits

    def prediction(self, preprocessing: Preprocessing, dtype: torch.dtype) -> StreamedSplit:
        """All rows of the source, with their features alone."""
        table = self._tables["source"].typed(preprocessing.types)
        encoder = FeatureEncoder(preprocessing, table.head.columns)
        blocks = [stop - start for start, stop in intervals(table.height, encoder.size)]
        return StreamedSplit(Selection(table, 0), 0, encoder, blocks)
