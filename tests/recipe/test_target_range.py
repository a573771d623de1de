"""Targets that single precision takes for zero or infinity are refused, with remedies that work."""

import numpy as np
import polars as pl
import pytest

FIT = ["fit", "--data.source", "t.csv", "--data.target", "y", "--trainer.max_epochs", "200"]


@pytest.fixture
def written(tmp_path):
    def write(unit):
        x = np.random.default_rng(0).normal(size=60)
        table = pl.DataFrame({"x": x, "y": (2 * x + 3) * unit})
        table.write_csv(tmp_path / "t.csv")
        return table

    return write


@pytest.mark.parametrize(
    ("unit", "optimizer", "taken_for"),
    [(1e-40, "closed_form", "0"), (1e39, "closed_form", "infinity"), (1e-25, "adam", "0"), (1e25, "adam", "infinity")],
)
def test_a_target_beyond_single_precision_is_refused(run, tmp_path, written, unit, optimizer, taken_for):
    written(unit)
    status, _, errors = run([*FIT, "--model.optimizer", optimizer])
    assert status == 2
    assert f"for {taken_for}: set --data.standardize_target true" in errors
    assert errors.count("\n") == 1
    assert not [*tmp_path.glob("runs/*/*")]


@pytest.mark.parametrize("remedy", [["--data.standardize_target", "true"], ["--trainer.precision", "64-true"]])
@pytest.mark.parametrize("unit", [1e-40, 1e39])
def test_the_remedies_work(run, tmp_path, written, unit, remedy):
    table = written(unit)
    assert run([*FIT, *remedy])[0] == 0
    assert run(["predict", "--ckpt_path", "last", "--data.source", "t.csv", "--output", "p.csv"])[0] == 0
    predicted = pl.read_csv(tmp_path / "p.csv")["y"].to_numpy()
    np.testing.assert_allclose(predicted, table["y"].to_numpy(), rtol=1e-5, atol=1e-6 * unit)
