"""Tables with gaps, rare categories and names are fitted at the first try, with notes that say what was done."""

import numpy as np
import polars as pl
import pytest

FIT = ["fit", "--data.source", "houses.csv", "--data.target", "price", "--trainer.max_epochs", "2"]


def the_run(tmp_path, recipe="linear_regression"):
    (directory,) = (tmp_path / "runs" / recipe).iterdir()
    return directory


def notes(printed):
    return [line.removeprefix("note: ") for line in printed.splitlines() if line.startswith("note: ")]


@pytest.fixture
def houses(tmp_path):
    """100 houses: gaps in size and town, a name each, towns of which three occur once, two prices missing."""
    rng = np.random.default_rng(1)
    towns = [*rng.choice(["Aarau", "Bern", "Chur"], 97).tolist(), "Davos", "Egg", "Fully"]
    table = pl.DataFrame(
        {
            "name": [f"house {i}" for i in range(100)],
            "size": [None if i % 10 == 3 else float(i) for i in range(100)],
            "rooms": rng.integers(1, 9, 100),
            "town": [None if i % 25 == 4 else town for i, town in enumerate(towns)],
            "price": [None if i in (0, 50) else 1e5 + 1e3 * i for i in range(100)],
        }
    )
    table.write_csv(tmp_path / "houses.csv")
    return table


def test_a_table_with_gaps_names_and_rare_towns_is_fitted_at_the_first_try(run, tmp_path, houses):
    status, printed, errors = run([*FIT, "--data.split", "[1,0,0]"])
    assert (status, errors) == (0, "")
    said = notes(printed)
    assert said[:4] == [
        "left out: name (text that differs in nearly every row); --data.features keeps a column that it names",
        "left out: 2 of 100 rows, which have no target (price)",
        "missing values filled in by the median or the most frequent category, marked by size=missing, town=missing: "
        "size 10, town 4 (--data.impute)",
        "categories that occur once in the training split share a feature: town=other 3 (--data.handle_unknown)",
    ]
    assert (the_run(tmp_path) / "notes.txt").read_text().splitlines() == said
    features = pl.read_csv(the_run(tmp_path) / "coefficients.csv")["feature"].to_list()
    expected = ["(intercept)", "size", "size=missing", "rooms", "town=Bern", "town=Chur", "town=other", "town=missing"]
    assert features == expected


def test_what_is_filled_in_and_unknown_is_said_of_later_tables_too(run, tmp_path, houses):
    complete = houses.drop_nulls().head(60)
    complete.write_csv(tmp_path / "houses.csv")
    assert "missing" not in run([*FIT, "--data.split", "[1,0,0]"])[1]
    new = pl.DataFrame({"size": [None, 20.0, None], "rooms": [3, None, 4], "town": ["Bern", "Genf", None]})
    new.write_csv(tmp_path / "new.csv")
    status, printed, errors = run(["predict", "--ckpt_path", "last", "--data.source", "new.csv", "--output", "p.csv"])
    assert (status, errors) == (0, "")
    assert notes(printed)[1:] == [
        "missing values filled in: size 2, rooms 1, town 1 (--data.impute)",
        "rows whose category the training split lacks: town 1 (--data.handle_unknown)",
    ]
    filled = pl.DataFrame(
        {
            "size": [complete["size"].median(), 20.0, complete["size"].median()],
            "rooms": [3.0, complete["rooms"].median(), 4.0],
            "town": ["Bern", "Genf", complete["town"].mode().sort()[0]],
        }
    )
    filled.write_csv(tmp_path / "new.csv")
    run(["predict", "--ckpt_path", "last", "--data.source", "new.csv", "--output", "q.csv"])
    assert (tmp_path / "p.csv").read_text() == (tmp_path / "q.csv").read_text()


@pytest.mark.parametrize("impute", ["auto", "mean", "median", "most_frequent", "drop"])
def test_a_model_predicts_the_file_that_it_was_trained_on(run, tmp_path, houses, impute):
    assert run([*FIT, "--data.impute", impute])[0] == 0
    status, _, errors = run(["predict", "--ckpt_path", "last", "--output", "p.csv"])
    assert (status, errors) == (0, "")
    predictions = pl.read_csv(tmp_path / "p.csv")
    assert predictions.height == 100
    assert predictions["price"].is_finite().all()
    for command in ("validate", "test"):
        status, printed, errors = run([command, "--ckpt_path", "last"])
        assert (status, errors) == (0, "")
        assert "left out: 2 of 100 rows, which have no target (price)" in notes(printed)


def test_rows_without_a_target_are_left_out_of_files_of_their_own_too(run, tmp_path, houses):
    houses.head(20).write_csv(tmp_path / "later.csv")
    status, printed, _ = run([*FIT, "--data.validation", "later.csv", "--data.test", "later.csv"])
    assert status == 0
    assert notes(printed).count("later.csv: left out: 1 of 20 rows, which have no target (price)") == 2


@pytest.mark.parametrize("stream", [False, True])
def test_rows_without_a_label_are_left_out(run, tmp_path, stream):
    rng = np.random.default_rng(2)
    label = pl.Series([None if i % 9 == 0 else ("no", "yes")[i % 2] for i in range(200)])
    table = pl.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200), "label": label})
    table.write_parquet(tmp_path / "t.parquet")
    options = ["--data.source", "t.parquet", "--data.target", "label", "--trainer.max_epochs", "2"]
    if stream:
        options += ["--data.stream", "true", "--data.batch_size", "32"]
    status, printed, errors = run(["fit", *options], "logistic_regression")
    assert (status, errors) == (0, "")
    assert notes(printed)[0] == "left out: 23 of 200 rows, which have no target (label)"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--data.impute", "error"],
            r"houses.csv: missing values in size (10, first in row 4), town (4, first in row 5)",
        ),
        (
            ["--data.handle_unknown", "error"],
            "which the training split lacks: correct it, or train with --data.handle_",
        ),
        (["--data.target", "name", "--data.features", "[rooms]"], "needs numbers"),
    ],
)
def test_what_is_refused_by_request(run, tmp_path, houses, flags, message):
    status, _, errors = run([*FIT, *flags])
    assert status == 2
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_name_that_is_asked_for_is_a_feature(run, tmp_path, houses):
    status, printed, _ = run([*FIT, "--data.features", "[name,rooms]", "--data.split", "[1,0,0]"])
    assert status == 0
    assert "categories that occur once in the training split share a feature: name=other 98" in printed


def test_nothing_but_names_is_refused_with_the_remedy(run, houses):
    status, _, errors = run([*FIT, "--data.exclude", "[size,rooms,town]"])
    assert status == 2
    assert "no column is left to predict from; left out: name (text that differs in nearly every row)" in errors
    assert "--data.features" in errors


def test_many_categories_are_bounded(run, tmp_path):
    person = [f"p{i % 150}" for i in range(600)]
    pl.DataFrame({"person": person, "y": np.arange(600.0)}).write_csv(tmp_path / "t.csv")
    fit = [
        "fit",
        "--data.source",
        "t.csv",
        "--data.target",
        "y",
        "--trainer.max_epochs",
        "1",
        "--data.split",
        "[1,0,0]",
    ]
    _, printed, _ = run(fit)
    assert "all but the 99 most frequent categories share a feature: person=other 51 (--data.max_categories)" in printed
    assert "share a feature" not in run([*fit, "--data.max_categories", "null"])[1]


def test_words_and_numbers_can_be_named_as_missing_values(run, tmp_path):
    size = [("n.d.", "999", "1.5", "2.5")[i % 4] for i in range(80)]
    pl.DataFrame({"size": size, "y": np.arange(80.0)}).write_csv(tmp_path / "t.csv")
    fit = [
        "fit",
        "--data.source",
        "t.csv",
        "--data.target",
        "y",
        "--data.split",
        "[.8,.2]",
        "--trainer.max_epochs",
        "1",
    ]
    status, printed, errors = run([*fit, "--data.missing", "[n.d.,999]"])
    assert (status, errors) == (0, "")
    assert "missing values filled in by the median, marked by size=missing: size 40 (--data.impute)" in printed
