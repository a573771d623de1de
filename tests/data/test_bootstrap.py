"""Bootstrap samples: tables of as many rows as train, drawn with replacement."""

import numpy as np
import polars as pl
import pytest

import torchplug
from many.single_fits import WITHIN, assert_equal, single
from small_fits import classification, frame, regression
from torchplug import TabularData, fit_many, use
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements


def test_a_sample_has_as_many_rows_as_train_and_validates_on_the_tables_own():
    data = regression()
    data.prepare(DataRequirements(kind="regression"))
    training, validation = set(data.row_numbers("train")), data.row_numbers("validation").tolist()
    samples = data.bootstrap(40, seed=3)
    for drawn, validates in samples:
        assert len(drawn) == len(training)
        assert set(drawn) < training
        assert validates.tolist() == validation
    shares = [len(set(drawn)) / len(drawn) for drawn, _ in samples]
    assert np.mean(shares) == pytest.approx(1 - (1 - 1 / 36) ** 36, abs=0.02)
    occurs = np.bincount(np.concatenate([drawn for drawn, _ in samples]), minlength=60)
    assert occurs[sorted(training)].min() > 0, "each row may be drawn"
    assert [drawn.tolist() for drawn, _ in data.bootstrap(3, seed=3)] == [drawn.tolist() for drawn, _ in samples[:3]]
    assert data.bootstrap(1, seed=4)[0][0].tolist() != samples[0][0].tolist()


@pytest.mark.parametrize("stratify", [True, False])
def test_classes_keep_their_numbers_where_splits_do(stratify):
    data = classification(stratify=stratify)
    data.prepare(DataRequirements(kind="binary"))
    kinds = frame()["kind"]
    own = kinds[data.row_numbers("train")].eq("low").sum()
    counts = {kinds[drawn].eq("low").sum() for drawn, _ in data.bootstrap(10)}
    assert (counts == {own}) == stratify


def materialized(sample, **settings):
    """The table of a sample with every row as often as it was drawn, and those that validate."""
    training, validation = sample
    table = pl.concat([frame()[training], frame()[validation]]).drop("kind")
    parts = ["train"] * len(training) + ["validation"] * len(validation)
    table = table.with_columns(part=pl.Series(parts))
    return TabularData(table, "y", split_column="part", batch_size=12, **settings)


@pytest.mark.parametrize("split", [[0.6, 0.2, 0.2], [0.7, 0.3], [1.0]])
def test_a_model_of_a_sample_is_that_of_the_table_with_repeated_rows(tmp_path, split):
    config = {"model": use("mlp", hidden=[4]), "optimizer": use("adam", lr=0.05)}
    data = regression(split=split, standardize_target=True)
    samples = data.bootstrap(2)
    settings = {"max_epochs": 3, "precision": "64-true"}
    results = fit_many([config], data, samples, {"accelerator": "cpu", **settings}, replacement=True)
    for result, sample in zip(results, samples, strict=True):
        tables = materialized(sample, standardize_target=True)
        if len(split) == 1:
            module = fit_many([config], tables, trainer={"accelerator": "cpu", **settings})[0].module
            for mine, its in zip(result.module.network.parameters(), module.network.parameters(), strict=True):
                np.testing.assert_allclose(mine.detach(), its.detach(), rtol=1e-9)
        else:
            assert_equal(result, *single(tmp_path, config, tables, **settings), WITHIN["64-true"])


def test_least_squares_of_a_sample():
    data = regression(split=[1.0])
    config = {"model": use("linear"), "optimizer": "closed_form"}
    samples = data.bootstrap(3)
    table = frame()
    results = fit_many([config], data, samples, {"max_epochs": 1}, replacement=True)
    for result, (drawn, _) in zip(results, samples, strict=True):
        X = np.column_stack([table[drawn].select("a", "b", "c").to_numpy(), np.ones(len(drawn))])
        expected = X @ np.linalg.lstsq(X, table["y"].to_numpy()[drawn])[0]
        np.testing.assert_allclose(result.module.predict(table[drawn])["y"], expected, rtol=1e-8)


def test_refused(tmp_path):
    frame().drop("kind").write_parquet(tmp_path / "t.parquet")
    for source, reason in (
        (
            TabularData(frame(3).drop("kind"), "y", split=[0.4, 0.6]),
            "bootstrap samples of 1 training row are all equal",
        ),
        (regression(validation=frame().drop("kind")), "leave out the table for validation"),
        (TabularData(str(tmp_path / "t.parquet"), "y", stream=True), "leave out stream"),
    ):
        with pytest.raises(DataError, match=reason):
            source.bootstrap(2)
    for asked, reason in (({"samples": 0}, "samples must be"), ({"samples": 2, "seed": -1}, "seed must be")):
        with pytest.raises(DataError, match=reason):
            regression().bootstrap(**asked)
    with pytest.raises(DataError, match="a fold's training rows have 3 twice"):
        regression().fold([3, 3, 4], [5])
    with pytest.raises(DataError, match="a fold's validation rows have 5 twice"):
        regression().fold([3, 3, 4], [5, 5], replacement=True)
    with pytest.raises(DataError, match="a fold trains on row 3 and validates on it"):
        regression().fold([3, 3, 4], [3], replacement=True)


def test_folds_of_other_methods_may_not_repeat_rows(tmp_path):
    config = {"model": use("linear"), "optimizer": use("adam", lr=0.1)}
    with pytest.raises(DataError, match="twice"):
        torchplug.cross_validate(config, regression(split=[1.0]), folds=[([1, 1, 2], [3])], root=tmp_path)
