import json

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only

from torchplug.tracking.jsonl import JsonlLogger, plain_values
from torchplug.tracking.run import Run


def _rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_each_row_is_on_disk_when_the_call_returns(tmp_path):
    logger = JsonlLogger(Run(tmp_path))
    for step in range(3):
        logger.log_metrics({"val/loss": step / 3, "epoch": step}, step)
        assert _rows(tmp_path)[-1] == {"step": step, "epoch": step, "val/loss": step / 3}
    assert len(_rows(tmp_path)) == 3


def test_every_float64_is_read_back_exactly(tmp_path):
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2**63, 200, dtype=np.uint64).view(np.float64)
    values = [*values[np.isfinite(values)].tolist(), 5e-324, 1.7976931348623157e308]
    JsonlLogger(Run(tmp_path)).log_metrics({str(i): value for i, value in enumerate(values)}, 0)
    (row,) = _rows(tmp_path)
    assert [row[str(i)] for i in range(len(values))] == values


def test_what_json_cannot_say_is_null():
    metrics = {
        "a": torch.tensor(float("nan")),
        "b": float("inf"),
        "c": np.float64("-inf"),
        "d": np.float32(0.1),
        "e": 2,
    }
    assert plain_values(metrics) == {"a": None, "b": None, "c": None, "d": float(np.float32(0.1)), "e": 2}


def test_a_row_without_an_epoch_says_null_and_the_metrics_are_left_alone(tmp_path):
    metrics = {"lr-SGD": 0.1, "epoch": 4}
    logger = JsonlLogger(Run(tmp_path))
    logger.log_metrics({"lr-SGD": 0.1}, 7)
    logger.log_metrics(metrics, 8)
    assert _rows(tmp_path)[0] == {"step": 7, "epoch": None, "lr-SGD": 0.1}
    assert metrics == {"lr-SGD": 0.1, "epoch": 4}  # the next logger gets the same object


def test_a_resumed_run_appends_after_cutting_off_half_a_row(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "epoch": 0, "a": 1.0}\n{"step": 1, "ep')
    JsonlLogger(Run(tmp_path)).log_metrics({"a": 2.0, "epoch": 1}, 1)
    assert _rows(tmp_path) == [{"step": 0, "epoch": 0, "a": 1.0}, {"step": 1, "epoch": 1, "a": 2.0}]


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    JsonlLogger(Run(tmp_path)).log_metrics({"a": 1.0}, 0)
    assert list(tmp_path.iterdir()) == []


def test_lightning_finds_the_run_directory_through_it(tmp_path):
    logger = JsonlLogger(Run(tmp_path / "mlp" / "run"))
    logger.log_hyperparams({"lr": 0.1})
    assert (logger.name, logger.version, logger.save_dir) == ("mlp", "run", str(tmp_path / "mlp" / "run"))
