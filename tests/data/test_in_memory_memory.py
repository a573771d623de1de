"""Preparing holds the tensors that are trained on, and beside them no more than buffers that do not grow."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import polars as pl
import pytest

MEASURE = """
    import sys
    import numpy as np
    import polars as pl
    import torch
    from torchplug.data import parquet
    from torchplug.data.tabular import TabularData
    from torchplug.preprocessing import DataRequirements, blocks

    torch.set_num_threads(1)
    blocks.BLOCK_NUMBERS = parquet._FILE_BLOCK_NUMBERS = 2**17
    kind, request, path, small, large, columns = *sys.argv[1:4], *map(int, sys.argv[4:])

    def memory(key):
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))

    def source(rows):
        if kind == "parquet":
            return path.format(rows), {"target": "x0"}
        array = np.empty((rows, columns), np.float32)
        for start in range(0, rows, 1000):
            array[start : start + 1000] = rng.normal(size=(len(array[start : start + 1000]), columns))
        if kind == "polars":
            return pl.DataFrame({f"x{j}": array[:, j].copy() for j in range(columns)}), {"target": "x0"}
        return (array[:, 1:], array[:, 0]), {}

    def prepare(table, options):
        data = TabularData(table, batch_size=8192, impute="error" if request == "complete" else "auto", **options)
        full_batch = request == "full_batch"
        data.prepare(DataRequirements("regression", "mse", standardize_target=True, full_batch=full_batch))
        if not full_batch:
            for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
                for batch in loader:
                    pass
        return data

    rng = np.random.default_rng(0)
    prepare(*source(small))  # what is loaded or started once
    table = source(large)
    before = memory("VmRSS")
    data = prepare(*table)
    print(memory("VmHWM") - before)
"""
ROWS, COLUMNS = 400_000, 33
FEATURES = ROWS * (COLUMNS - 1)
# of a row: which split it belongs to, its place in the order, its target in both precisions
PER_ROW = ROWS * (4 + 4 + 8 + 4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize(
    ("kind", "request_"),
    [("polars", "plain"), ("polars", "full_batch"), ("numpy", "plain"), ("numpy", "complete"), ("parquet", "plain")],
)
def test_no_second_copy_of_the_table_is_made(tmp_path, kind, request_):
    small = 10_000
    if kind == "parquet":
        rng = np.random.default_rng(0)
        for rows in (small, ROWS):
            frame = pl.DataFrame({f"x{j}": rng.normal(size=rows).astype(np.float32) for j in range(COLUMNS)})
            frame.write_parquet(tmp_path / f"{rows}.parquet", row_group_size=20_000)
    # each thread of polars has buffers of its own
    environment = {**os.environ, "POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "1"}
    arguments = [kind, request_, str(tmp_path / "{}.parquet"), str(small), str(ROWS), str(COLUMNS)]
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert output.returncode == 0, output.stderr
    tensors = FEATURES * (8 if request_ == "full_batch" else 4)
    beside = int(output.stdout) - tensors - PER_ROW
    # a copy of the features in float32 would be 49 MB more
    assert beside < 46 * 2**20, f"{beside / 2**20:.0f} MB beside {tensors / 2**20:.0f} MB of features"
