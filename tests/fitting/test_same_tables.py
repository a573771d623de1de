"""Tables that are evaluated are compared with those of the fit."""

import numpy as np
import polars as pl
import pytest

FIT = ["fit", "--data.source", "t.csv", "--data.target", "y", "--trainer.max_epochs", "2"]


@pytest.fixture
def fitted(run, tmp_path):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"x": rng.normal(size=60), "k": [f"0{i % 4}" for i in range(60)], "y": rng.normal(size=60)})
    frame.write_csv(tmp_path / "t.csv")
    assert run(FIT)[0] == 0
    return frame


def sorted_table(frame, path):
    frame.sort("y").write_csv(path)


def grown_table(frame, path):
    pl.concat([frame, frame.head(5)]).write_csv(path)


@pytest.mark.parametrize("change", [sorted_table, grown_table])
@pytest.mark.parametrize("command", ["test", "validate"])
def test_a_table_that_changed_is_refused_unless_it_is_named(run, tmp_path, fitted, change, command):
    change(fitted, tmp_path / "t.csv")
    rows = 65 if change is grown_table else 60
    status, _, errors = run([command])
    assert status == 2
    split = "test" if command == "test" else "validation"
    assert (
        f"t.csv is not the table of the fit (60 rows then, {rows} now), and its {split} split may hold rows that were "
        "trained on: pass --data.source to use it all the same"
    ) in errors
    status, printed, _ = run([command, "--data.source", "t.csv"])
    assert status == 0
    assert f"note: t.csv is not the table of the fit (60 rows then, {rows} now)" in printed


def test_a_path_that_leads_elsewhere_is_refused(run, tmp_path, fitted, monkeypatch):
    (run_directory,) = (tmp_path / "runs" / "linear_regression").iterdir()
    (tmp_path / "elsewhere").mkdir()
    sorted_table(fitted, tmp_path / "elsewhere" / "t.csv")
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, _, errors = run(["test", "--ckpt_path", str(run_directory)])
    assert status == 2
    assert "t.csv is not the table of the fit" in errors


def test_the_same_rows_in_another_place_or_form_are_those_of_the_fit(run, tmp_path, fitted):
    pl.read_csv(tmp_path / "t.csv", infer_schema=False).write_csv(tmp_path / "u.csv", separator=";")
    for source in ([], ["--data.source", "t.csv"], ["--data.source", "u.csv"]):
        status, printed, errors = run(["test", *source])
        assert (status, "not the table of the fit" in printed) == (0, False), errors


def test_training_is_continued_on_the_same_rows_only(run, tmp_path, fitted):
    sorted_table(fitted, tmp_path / "t.csv")
    status, _, errors = run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4", "--data.source", "t.csv"])
    assert status == 2
    assert "training can only be continued on the same rows" in errors
