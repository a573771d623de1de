"""Preprocessing that every row of a table teaches."""

import numpy as np

from torchplug.data.in_memory_fit import TrainingColumns
from torchplug.data.table import MemoryTable, UsedRows
from torchplug.preprocessing import EncodingRules, Preprocessing, read_target
from torchplug.preprocessing.target import TargetCoding


def fit(frame, target="y", kind="regression", *, standardize_target=False, center=True, standardize=True, **rules):
    """Fitted on all rows of a frame, of which every other column is a feature; `rules` are those of `EncodingRules`."""
    features = [column for column in frame.columns if column != target]
    reading = read_target(frame, [target], kind, "mse", "t")
    coding = TargetCoding.fit(frame, reading, standardize=standardize_target, center=center, where="t")
    rules = EncodingRules(**rules)
    rows = TrainingColumns(
        UsedRows(MemoryTable(frame, {}), "t"), features, np.arange(frame.height), complete=not rules.fills
    )
    return Preprocessing.fit(rows, coding, center=center, standardize=standardize, rules=rules)
