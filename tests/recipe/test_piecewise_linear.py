"""Losses with kinks by a full-batch optimizer, from the command line."""

import json

import numpy as np
import polars
import pytest
from sklearn.linear_model import QuantileRegressor

TABLE = ["--data.source", "t.csv", "--data.target", "y", "--data.split", "[1.0]"]
INTERIOR = ["--model.optimizer", "interior_point"]


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(200, 3)) * [1.0, 100.0, 0.01] + [0.0, 500.0, 1.0]
    y = X @ [1.0, -0.02, 30.0] + rng.standard_t(2, size=200)
    frame = polars.DataFrame({**dict(zip("abc", X.T, strict=True)), "y": y})
    frame.write_csv(tmp_path / "t.csv")
    return frame


def the_run(tmp_path):
    (directory,) = (tmp_path / "runs" / "linear_regression").iterdir()
    return directory


@pytest.mark.parametrize(("loss", "orders"), [("l1", [0.5]), ("quantile", [0.1, 0.5, 0.9])])
def test_the_minimum_is_that_of_scikit_learn(run, table, tmp_path, loss, orders):
    status, printed, errors = run(["fit", *TABLE, "--model.loss", loss, *INTERIOR])
    assert (status, errors) == (0, "")
    assert "converged" in printed
    outcome = json.loads((the_run(tmp_path) / "outcome.json").read_text())
    assert outcome["name"] == "converged"
    X, y, lowest = table["a", "b", "c"].to_numpy(), table["y"].to_numpy(), 0.0
    for q in orders:
        error = y - QuantileRegressor(quantile=q, alpha=0.0, solver="highs").fit(X, y).predict(X)
        lowest += np.maximum(q * error, (q - 1) * error).mean()
    factor = 2.0 if loss == "l1" else 1.0
    assert outcome["last_iteration"]["loss"] == pytest.approx(factor * lowest, rel=1e-8)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([*INTERIOR], "interior_point needs a loss that is piecewise linear, such as l1 or quantile, and mse is none"),
        (
            ["--model.loss", "l1", "--model.model", "mlp", *INTERIOR],
            "interior_point needs a model that is linear in its parameters",
        ),
        (
            ["--model.loss", "l1", *INTERIOR, "--model.regularizers+=l1"],
            "interior_point takes penalties that are sums of squares of single parameters, such as l2, and l1 is none",
        ),
        (
            ["--model.loss", "quantile", "--model.optimizer", "newton"],
            "newton needs a loss without kinks, and quantile has them: with a linear model use the optimizer "
            "interior_point",
        ),
    ],
)
def test_what_cannot_be_solved_is_refused_in_one_line(run, table, tmp_path, flags, words):
    status, _, errors = run(["fit", *TABLE, *flags])
    assert status == 2
    assert words in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_limited_fit_is_continued_exactly(run, table, tmp_path):
    line = ["fit", *TABLE, "--model.loss", "quantile", *INTERIOR]
    assert run([*line, "--trainer.max_epochs", "4"])[0] == 0
    cut = the_run(tmp_path)
    assert run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "200"])[0] == 0
    continued = (cut / "coefficients.csv").read_bytes()
    assert run(line)[0] == 0
    (whole,) = (path for path in (tmp_path / "runs" / "linear_regression").iterdir() if path != cut)
    assert (whole / "coefficients.csv").read_bytes() == continued
    assert json.loads((cut / "outcome.json").read_text())["name"] == "converged"


def test_a_streamed_table(run, table, tmp_path):
    table.write_parquet(tmp_path / "t.parquet")
    flags = ["--data.target", "y", "--data.split", "[1.0]", "--model.loss", "l1", *INTERIOR]
    streamed = ["--data.source", "t.parquet", "--data.stream", "true"]
    found = []
    for source in (["--data.source", "t.csv"], streamed):
        assert run(["fit", *source, *flags])[0] == 0
        newest = max((tmp_path / "runs" / "linear_regression").iterdir())
        found.append(json.loads((newest / "outcome.json").read_text())["last_iteration"]["loss"])
    assert found[1] == pytest.approx(found[0], rel=1e-9)
