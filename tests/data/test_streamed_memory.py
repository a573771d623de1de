"""The peak of memory does not grow with the rows."""

import subprocess
import sys
import textwrap

import numpy as np
import polars as pl
import pytest

MEASURE = """
    import sys
    import torch
    from torchplug.data import parquet
    from torchplug.data.tabular import TabularData
    from torchplug.preprocessing import DataRequirements

    torch.set_num_threads(1)
    parquet._FILE_BLOCK_NUMBERS = 2**17

    def peak():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    for source in sys.argv[1:]:
        data = TabularData(source, "y", stream=True, weights="w", impute="mean", batch_size=8192)
        for full_batch in (True, False):
            data.prepare(DataRequirements("regression", "mse", standardize_target=True, full_batch=full_batch))
        split = data.rows_of("train")
        for start in range(0, split.samples, 4096):
            split.read(start, min(start + 4096, split.samples))
        rows = sum(len(batch.weight) for loader in (data.train_dataloader(), data.val_dataloader()) for batch in loader)
        assert rows == data.sizes["train"] + data.sizes["validation"]
        data.target_scale, data.fingerprint
        print(peak())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path):
    rng = np.random.default_rng(0)
    sources = []
    for rows in (100_000, 800_000):
        columns = {name: rng.normal(size=rows) for name in ("a", "b", "c", "d", "y")}
        frame = pl.DataFrame({**columns, "w": rng.uniform(1, 2, rows), "town": rng.choice(["A", "B"], rows)})
        sources.append(str(tmp_path / f"{rows}.parquet"))
        frame.write_parquet(sources[-1], row_group_size=20_000)
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), *sources], capture_output=True, text=True, timeout=300
    )
    assert output.returncode == 0, output.stderr
    small, large = (int(line) / 1024 for line in output.stdout.split())
    # the values alone, as read and as encoded, would be 75 MB more
    assert large - small < 20, f"{small:.0f} MB, then {large:.0f} MB"
