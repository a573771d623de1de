"""Optimizers that decide by the loss: two processes take the decisions of one."""

import os

import pytest
import torch

import closures
from distributed_jobs import launch


@pytest.mark.parametrize("optimizer", ["quasi", "sam"])
def test_two_processes_decide_as_one(tmp_path, distributions, monkeypatch, optimizer):
    """Each rank sees other rows, hence another loss: without the mean over ranks they would wait for each other."""
    closures.install(distributions)
    path = [str(distributions.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    job = {
        "model": {"name": "mlp", "parameters": {"hidden": [4], "activation": "tanh"}},
        "loss": "mse",
        "optimizer": {"name": optimizer},
        "rows": 40,
        "trainer": {"max_epochs": 3, "precision": "64-true"},
    }
    # L-BFGS amplifies rounding from batch to batch, so that one batch has all rows
    two = launch(tmp_path / "two", "fit", {**job, "world": 2, "batch_size": 20})
    (one,) = launch(tmp_path / "one", "fit", {**job, "world": 1, "batch_size": 40})
    for name, weights in one.items():
        assert torch.equal(two[0][name], two[1][name])
        torch.testing.assert_close(two[0][name], weights, rtol=1e-6, atol=1e-8)
