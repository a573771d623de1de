"""Preprocessing that is fitted on every row of a table."""

import numpy as np

from torchplug.data.far_values import FarValues
from torchplug.data.fit import fit_in_memory
from torchplug.data.table import MemoryTable, UsedRows
from torchplug.preprocessing import EncodingRules, Preprocessing, TargetFit


def fit(frame, target="y", kind="regression", *, standardize_target=False, center=True, scale="standard", **rules):
    """Fitted on all rows of a frame, of which every other column is a feature; `rules` are those of `EncodingRules`."""
    features = [column for column in frame.columns if column != target]
    goal = TargetFit(frame, [target], kind, "mse")
    goal.check(frame, "t")
    goal.update(frame)
    coding = goal.coding(goal.reading("t"), "t", standardize=standardize_target, center=center)
    used = UsedRows(MemoryTable(frame, {}), "t")
    fitted = fit_in_memory(used, features, np.arange(frame.height), EncodingRules(scale=scale, **rules), FarValues())
    return Preprocessing.of(fitted, coding, center=center, scale=scale)
