"""Numbers beyond the precision that is trained in, and one number beside which all others vanish."""

import lightning
import numpy as np
import polars as pl
import pytest

from torchplug import ComponentModule, TabularData
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequest


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pl.DataFrame({"x": rng.normal(size=60), "y": rng.normal(size=60)})


def trained(table, tmp_path, *, stream, precision="32-true", **options):
    table.write_parquet(tmp_path / "t.parquet")
    source = tmp_path / "t.parquet" if stream else table
    data = TabularData(source, "y", stream=stream, split=[1, 0, 0], **options)
    silent = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=1, precision=precision, use_distributed_sampler=False, **silent)
    trainer.fit(ComponentModule("linear", "mse", "sgd"), data)


@pytest.mark.parametrize("stream", [False, True])
def test_targets_that_vanish_in_single_precision_are_refused(table, tmp_path, stream):
    tiny = table.with_columns(pl.col("y") * 1e-40)
    with pytest.raises(DataError, match=r"the target has no value beyond .*e-40, whose square is 0 in float32"):
        trained(tiny, tmp_path, stream=stream)
    trained(tiny, tmp_path, stream=stream, standardize_target=True)
    trained(tiny.with_columns(pl.col("y") * 1e25), tmp_path, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_targets_beyond_single_precision_are_refused(table, tmp_path, stream):
    with pytest.raises(DataError, match=r"too large for float32: change its unit, or train with --trainer\.precision"):
        trained(table.with_columns(pl.col("y") * 1e60), tmp_path, stream=stream)


@pytest.mark.parametrize("large", [1e300, -1e20])
def test_one_value_that_swamps_a_feature_is_noted(table, large):
    data = TabularData(table.with_columns(x=pl.Series([large, *table["x"][1:]])), "y", split=[1, 0, 0])
    data.prepare(DataRequest("regression", "mse"))
    assert "one value is so large that the others hardly differ beside it: x; correct it" in data.notes


@pytest.mark.parametrize("factor", [1.0, 1e300, 1e-300])
def test_units_are_no_reason_for_a_note(table, factor):
    data = TabularData(table.with_columns(pl.col("x") * factor), "y", split=[1, 0, 0])
    data.prepare(DataRequest("regression", "mse"))
    assert not any("so large" in note for note in data.notes)
