"""The line of a fit that names a better linear model, and the command in it."""

import re
import shlex

import pytest

import torchplug
from recipe_processes import TWO_RANKS
from recipe_processes import run as run_process

SAID = r"note: a linear model has the lower val/\w+, ([\d.e+-]+) instead of ([\d.e+-]+); compare: python (\S+) (.*)"
SHORT = ["fit", "--trainer.max_epochs", "1"]


@pytest.mark.parametrize(
    ("source", "recipe", "metric"),
    [
        ("diabetes", "linear_regression", "rmse"),
        ("breast_cancer", "logistic_regression", "loss"),
        ("digits", "logistic_regression", "loss"),
    ],
)
def test_the_command_trains_about_the_model_that_was_better(run, source, recipe, metric):
    status, printed, _ = run([*SHORT, "--data.source", source], "mlp")
    assert status == 0
    said = re.search(SAID, printed)
    assert float(said[1]) < float(said[2])
    assert said[3].endswith(f"recipes/{recipe}.py")
    assert run(shlex.split(said[4]), recipe)[0] == 0
    (found,) = torchplug.runs(f"runs/{recipe}")
    assert found.metrics[f"val/{metric}"].drop_nulls()[-1] == pytest.approx(float(said[1]), rel=0.15)


def test_the_command_has_the_settings_of_the_table_and_of_the_loss(run, tmp_path):
    (tmp_path / "own table.csv").write_text("a,b,y\n" + "".join(f"{0.5 * i},{i % 7},{2.1 * i}\n" for i in range(60)))
    line = [*SHORT, "--data.source", "own table.csv", "--data.split", "[0.5,0.5,0]", "--data.target", "y"]
    words = shlex.split(re.search(SAID, run(line, "mlp")[1])[4])
    given = dict(zip(words[1::2], words[2::2], strict=True))
    assert given["--data.source"] == "own table.csv"
    assert given["--data.split"] == "[0.5, 0.5, 0.0]"
    assert given["--data.target"] == "y"
    assert "--model.loss" not in given
    line = [*SHORT, "--model.loss", "cross_entropy", "--model.loss.label_smoothing", "0.1"]
    words = shlex.split(re.search(SAID, run(line, "mlp")[1])[4])
    assert '"label_smoothing": 0.1' in words[words.index("--model.loss") + 1]


def test_a_network_that_is_better_gets_no_line(run, tmp_path):
    rows = "".join(f"{a},{b},{a * b}\n" for a in range(-8, 9) for b in range(-8, 9))
    (tmp_path / "product.csv").write_text("a,b,y\n" + rows)
    line = ["fit", "--data.source", "product.csv", "--data.target", "y", "--trainer.max_epochs", "20"]
    status, printed, _ = run([*line, "--model.loss", "mse"], "mlp")
    assert status == 0
    assert "a linear model" not in printed
    (found,) = torchplug.runs("runs/mlp")
    assert found.outcome["baseline"]["wins"] is False


def test_several_ranks_say_it_once(tmp_path):
    status, printed, errors = run_process(tmp_path, "mlp", *SHORT, "--data.source", "diabetes", *TWO_RANKS)
    assert status == 0, errors
    assert printed.count("a linear model has the lower val/rmse") == 1
