"""What differs between runs."""

import json

import pytest

import torchplug
from torchplug import TabularData, use
from torchplug.errors import ConfigurationError


@pytest.fixture
def runs(tmp_path):
    data = {"source": "diabetes", "target": "target", "batch_size": 64}

    def fit(rate, epochs):
        config = {"model": use("linear"), "loss": "mse", "optimizer": use("adam", lr=rate)}
        settings = {"max_epochs": epochs, "accelerator": "cpu"}
        tracking = {"mode": "disabled"}
        return torchplug.fit(config, TabularData(**data), trainer=settings, tracking=tracking, root=tmp_path).run

    return [fit(0.01, 3), fit(0.1, 3)]


def test_settings_that_differ_and_last_values(runs):
    found = torchplug.compare(runs)
    assert found.settings.rows() == [("model/optimizer/lr", "0.01", "0.1")]
    metrics = {name: values for name, *values in found.metrics.rows()}
    for run, column in zip(runs, range(2), strict=True):
        rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
        assert metrics["val/rmse"][column] == [row["val/rmse"] for row in rows if "val/rmse" in row][-1]


def test_later_evaluations_are_no_part_of_the_curves(runs):
    with runs[0].metrics_file.open("a") as file:
        file.write('{"evaluated": "best.ckpt", "step": 1, "epoch": 1, "test/loss": 7.0}\n')
    assert "test/loss" not in torchplug.compare(runs).metrics["metric"].to_list()


def test_the_picture(runs, tmp_path):
    path = torchplug.compare(runs).draw(tmp_path / "curves.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("count", [0, 1])
def test_one_run_cannot_be_compared(runs, count):
    with pytest.raises(ConfigurationError, match="name at least two"):
        torchplug.compare(runs[:count])


def test_a_run_differs_from_others_alone(runs):
    with pytest.raises(ConfigurationError, match="named twice"):
        torchplug.compare([runs[0], runs[0].path])
