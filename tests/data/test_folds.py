"""Folds for cross-validation, beside scikit-learn's splitters."""

import numpy as np
import polars as pl
import pytest
from sklearn.model_selection import TimeSeriesSplit

from torchplug import TabularData
from torchplug.data.split_methods import forward_chaining
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements
from torchplug.tracking.ledger import identity

N = 90


def frame(**columns):
    rng = np.random.default_rng(2)
    return pl.DataFrame({"a": rng.normal(size=N), "y": rng.normal(size=N), **columns})


def data(table, **settings):
    return TabularData(table, target="y", **settings)


def covers(folds, rows):
    """Each row validates once, and the others train."""
    rows = np.sort(rows)
    assert np.array_equal(np.sort(np.concatenate([validation for _, validation in folds])), rows)
    for training, validation in folds:
        assert np.array_equal(np.sort(np.concatenate([training, validation])), rows)


def test_folds_divide_all_rows_but_those_that_are_tested():
    source = data(frame())
    folds = source.folds(4)
    covers(folds, np.setdiff1d(np.arange(N), source.test_rows()))
    assert [len(validation) for _, validation in folds] == [18, 18, 18, 18]
    assert len(source.test_rows()) == 18
    covers(data(frame(), split=[1.0]).folds(7), np.arange(N))


def test_rows_without_a_target_are_in_no_fold():
    table = frame().with_columns(y=pl.when(pl.int_range(N) % 10 == 3).then(None).otherwise("y"))
    rows = np.flatnonzero(np.arange(N) % 10 != 3)
    covers(data(table, split=[1.0]).folds(3), rows)


def test_a_seed_and_a_repeat_are_another_division_and_the_same_seed_the_same():
    source = data(frame(), split=[1.0])
    twice = source.folds(3, repeats=2, seed=5)
    covers(twice[:3], np.arange(N))
    covers(twice[3:], np.arange(N))
    first = [validation.tolist() for _, validation in twice]
    assert first[:3] != first[3:]
    assert first == [validation.tolist() for _, validation in source.folds(3, repeats=2, seed=5)]
    assert first[:3] != [validation.tolist() for _, validation in source.folds(3, seed=6)]


def test_classes_have_their_shares_in_every_fold():
    labels = ["x"] * 60 + ["y"] * 20 + ["z"] * 10
    source = TabularData(frame(kind=labels).drop("y"), "kind", split=[1.0])
    folds = source.folds(5)
    covers(folds, np.arange(N))
    for _, validation in folds:
        assert np.unique(np.array(labels)[validation], return_counts=True)[1].tolist() == [12, 4, 2]
    drawn = TabularData(frame(kind=labels).drop("y"), "kind", split=[1.0], stratify=False).folds(5)
    shares = {tuple(np.unique(np.array(labels)[rows], return_counts=True)[1]) for _, rows in drawn}
    assert shares != {(12, 4, 2)}


def test_groups_stay_whole():
    groups = np.arange(N) // 6
    folds = data(frame(site=groups), group="site", split=[1.0]).folds(5)
    covers(folds, np.arange(N))
    for training, validation in folds:
        assert not set(groups[training]) & set(groups[validation])
    assert {len(validation) for _, validation in folds} == {18}


@pytest.mark.parametrize(("n", "folds"), [(90, 5), (11, 4), (7, 6), (100, 3)])
def test_folds_along_time_are_those_of_scikit_learn(n, folds):
    order = np.random.default_rng(n).permutation(n)
    ranks = np.empty(n, dtype=np.int64)
    ranks[order] = np.arange(n)
    expected = [tuple(np.sort(order[part]) for part in fold) for fold in TimeSeriesSplit(folds).split(ranks)]
    for found, wanted in zip(forward_chaining(ranks, folds), expected, strict=True):
        assert all(np.array_equal(own, other) for own, other in zip(found, wanted, strict=True))


def test_folds_along_time_leave_the_latest_rows_to_the_test_and_equal_times_together():
    days = np.random.default_rng(1).integers(0, 30, N)
    source = data(frame(day=days), time="day")
    tested = source.test_rows()
    folds = source.folds(4)
    assert days[tested].min() > max(days[validation].max() for _, validation in folds)
    for training, validation in folds:
        assert days[training].max() < days[validation].min()


def test_a_split_column_says_which_rows_are_divided():
    part = np.array(["train", "validation", "test"])[np.arange(N) % 3]
    folds = data(frame(part=part), split_column="part").folds(4)
    covers(folds, np.flatnonzero(part != "test"))


def test_a_table_of_its_own_for_the_test_leaves_the_whole_source():
    source = data(frame(), test=frame().head(5))
    covers(source.folds(3), np.arange(N))
    fold = source.fold(*source.folds(3)[0])
    assert fold.sources.keys() == {"source"}


LABELLED = frame(kind=["x"] * 60 + ["y"] * 27 + ["rare"] * 3)


@pytest.mark.parametrize(
    ("source", "asked", "reason"),
    [
        (data(frame()), {"folds": 1}, "folds must be a whole number of at least 2, not 1"),
        (data(frame()), {"folds": 3, "repeats": 0}, "repeats must be a whole number of at least 1, not 0"),
        (data(frame()), {"folds": 3, "seed": -1}, "seed must be a whole number of at least 0, not -1"),
        (data(frame()), {"folds": 73}, "73 folds of 72 rows leave some empty"),
        (
            TabularData(LABELLED.drop("y"), "kind", split=[1.0]),
            {"folds": 4},
            "class 'rare' has 3 rows for 4 folds: ask for fewer",
        ),
        (
            data(frame(site=np.arange(N) % 3), group="site", split=[1.0]),
            {"folds": 4},
            "'site' has 3 groups for 4 folds",
        ),
        (data(frame(day=np.arange(N) % 4), time="day"), {"folds": 4}, "'day' has 3 different values in 68 rows"),
        (data(frame(day=np.arange(N)), time="day"), {"repeats": 2}, "the same in every repeat: leave out repeats"),
        (data(frame(), validation=frame()), {}, "leave out the table for validation"),
    ],
)
def test_refused(source, asked, reason):
    with pytest.raises(DataError, match=r"^[^\n]*$") as refused:
        source.folds(**asked)
    assert reason in str(refused.value)


def test_streamed_tables_have_no_folds(tmp_path):
    frame().write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="leave out stream"):
        data(str(tmp_path / "t.parquet"), stream=True).folds()


def test_a_split_says_which_rows_of_which_table_it_has(tmp_path):
    frame().write_parquet(tmp_path / "t.parquet")
    request = DataRequirements(kind="regression")
    found = {}
    for name, settings in {"one": {}, "again": {}, "seed": {"seed": 1}, "file": {"test": frame().head(9)}}.items():
        source = data(frame(), **settings)
        source.prepare(request)
        found[name] = identity(source, "test")
    assert found["one"] == found["again"]
    assert found["one"]["data"] == found["seed"]["data"] != found["file"]["data"]
    assert len({own["split"] for own in found.values()}) == 3
    streamed = data(str(tmp_path / "t.parquet"), stream=True)
    streamed.prepare(request)
    (rows,), (target,) = streamed.rows_of("test").row_numbers(), streamed.rows_of("test").targets()
    assert target[:, 0].tolist() == frame()["y"].to_numpy()[rows].tolist()
