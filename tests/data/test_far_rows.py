"""Notes on rows that are so far from all others that figures are about them alone."""

import numpy as np
import polars as pl
import pytest

from torchplug.data.tabular import TabularData
from torchplug.preprocessing import DataRequirements

TARGET = "target so far from all others that these hardly count beside it"
VALIDATED = "validation target so far from the training split's that val/loss is about it alone"
OUTSIDE = "validation rows so far outside of the training split that predictions are extrapolated"
TRAINING = 80


def notes_of(tmp_path, stream=False, kind="regression", **changed):
    generator = np.random.default_rng(0)
    split = np.array(["train"] * TRAINING + ["validation"] * 20)
    columns = {"x": generator.normal(size=100), "z": generator.normal(size=100), "y": generator.normal(size=100)}
    options = {key: changed.pop(key) for key in ("scale", "standardize_target") if key in changed}
    for name, change in changed.items():
        columns[name] = np.array(change(columns[name]))
    pl.DataFrame({**columns, "s": split}).write_parquet(tmp_path / "t.parquet")
    data = TabularData(tmp_path / "t.parquet", "y", split_column="s", stream=stream, **options)
    data.prepare(DataRequirements(kind=kind, loss="mse", standardize_target=True))
    return [note for note in data.notes if " far " in note]


def with_value(row, value):
    return lambda column: np.where(np.arange(len(column)) == row, value, column)


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
@pytest.mark.parametrize("factor", [1.0, 1e-20])
def test_a_far_target_of_a_training_row_is_noted(tmp_path, stream, factor):
    far = lambda column: with_value(7, -1e6)(column) * factor  # noqa: E731
    (note,) = notes_of(tmp_path, stream, y=far)
    assert note.startswith(f"{TARGET}: y ({-1e6 * factor:.6g} in row 8); correct it")


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
def test_a_far_target_of_a_validation_row_is_noted(tmp_path, stream):
    (note,) = notes_of(tmp_path, stream, y=with_value(93, 1e6))
    assert note.startswith(f"{VALIDATED}: y (1e+06 in row 94); correct it")


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
def test_a_far_feature_of_a_validation_row_is_noted(tmp_path, stream):
    (note,) = notes_of(tmp_path, stream, z=with_value(93, -1e6))
    assert note.startswith(f"{OUTSIDE}: z (row 94); correct it, if it is wrong, or clip with --data.scale robust")


def test_features_that_are_clipped_are_not_noted(tmp_path):
    assert notes_of(tmp_path, z=with_value(93, -1e6), scale="robust") == []
    assert notes_of(tmp_path, z=with_value(93, -1e6), scale="quantile") == []


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
@pytest.mark.parametrize(
    "target",
    [
        np.exp,  # a skewed one
        lambda y: np.random.default_rng(1).standard_cauchy(len(y)),
        lambda y: np.where(y > 1.5, 1e6, 0.0),  # mostly zero
        lambda y: 1e6 + y,
    ],
    ids=["skewed", "heavy tails", "mostly zero", "large mean"],
)
def test_ordinary_targets_are_not_noted(tmp_path, stream, target):
    assert notes_of(tmp_path, stream, y=target) == []


def test_classes_are_not_noted(tmp_path):
    assert notes_of(tmp_path, kind="multiclass", y=lambda y: np.where(y > 0, "a", "b")) == []


def test_rows_that_train_are_no_reason_for_a_note_on_features(tmp_path):
    assert notes_of(tmp_path, x=with_value(3, 1e4)) == []
