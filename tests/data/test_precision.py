"""Targets beyond the precision that is trained in, in Python."""

import lightning
import numpy as np
import polars as pl
import pytest

from torchplug import ComponentModule, TabularData
from torchplug.errors import DataError


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pl.DataFrame({"x": rng.normal(size=60), "y": rng.normal(size=60)})


def trained(table, tmp_path, *, stream, precision="32-true", **options):
    table.write_parquet(tmp_path / "t.parquet")
    source = tmp_path / "t.parquet" if stream else table
    data = TabularData(source, "y", stream=stream, split=[1, 0, 0], **options)
    zero_variance = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=1, precision=precision, use_distributed_sampler=False, **zero_variance)
    trainer.fit(ComponentModule("linear", "mse", "sgd"), data)


@pytest.mark.parametrize("stream", [False, True])
def test_targets_that_vanish_in_single_precision_are_refused(table, tmp_path, stream):
    tiny = table.with_columns(pl.col("y") * 1e-40)
    with pytest.raises(DataError, match=r"target 'y' has a size of about 1\.0e-40, .* such squares for 0"):
        trained(tiny, tmp_path, stream=stream)
    trained(tiny, tmp_path, stream=stream, standardize_target=True)
    trained(tiny.with_columns(pl.col("y") * 1e25), tmp_path, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_targets_beyond_single_precision_are_refused(table, tmp_path, stream):
    with pytest.raises(DataError, match=r"such squares for infinity: .* --trainer\.precision 64-true"):
        trained(table.with_columns(pl.col("y") * 1e60), tmp_path, stream=stream)
