"""A third party's metric in W&B: summarized by its best value, by the real client, offline."""

import third_party
from recipe_calls import call
from recipe_processes import rows, run_directories


def test_a_metric_is_summarized_by_its_direction(wandb_home, recorded, distributions, monkeypatch, tmp_path, capsys):
    third_party.install(distributions)
    monkeypatch.chdir(tmp_path)
    line = ["fit", "--tracking.mode", "offline", "--trainer.max_epochs", "3", "--model.metrics+=largest"]
    line += ["--model.metrics.scale", "10"]
    status, _, errors = call(capsys, line)
    assert (status, errors) == (0, "")
    (directory,) = run_directories(tmp_path, "linear_regression")
    values = [row["val/largest"] for row in rows(directory) if "val/largest" in row]
    shown = recorded(directory).run()
    assert shown["summary"]["val/largest"] == {"min": min(values), "last": values[-1]}
    assert shown["config"]["model/metrics/0"] == "acme:largest"
    assert shown["config"]["model/metrics/0/scale"] == 10.0
