"""Runs from beginning to end, in one process."""

import csv
import json

import polars
import pytest
import torch
import yaml
from sklearn.datasets import load_diabetes

from torchplug import ComponentModule

SHORT = ["fit", "--trainer.max_epochs", "3"]


def the_run(tmp_path, recipe="linear_regression"):
    (directory,) = (tmp_path / "runs" / recipe).iterdir()
    return directory


def rows(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_fit_leaves_a_run_directory(run, tmp_path):
    status, printed, errors = run(SHORT)
    assert (status, errors) == (0, "")
    directory = the_run(tmp_path)
    assert sorted(path.name for path in directory.iterdir()) == [
        ".lock",
        "checkpoints",
        "coefficients.csv",
        "config.yaml",
        "metrics.jsonl",
        "notes.txt",
        "outcome.json",
        "provenance.json",
    ]
    assert sorted(path.name for path in (directory / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert "rmse" in printed
    assert f"runs/linear_regression/{directory.name}" in printed
    config = yaml.safe_load((directory / "config.yaml").read_text())
    assert config["model"]["optimizer"] == {"class_path": "nesterov", "init_args": {"lr": 0.05, "beta": 0.9}}
    assert config["seed_everything"] == 0
    assert json.loads((directory / "provenance.json").read_text())["seed"] == 0
    assert [row["epoch"] for row in rows(directory) if "val/rmse" in row] == [0, 1, 2]


def test_coefficients_reproduce_predictions(run, tmp_path):
    run(SHORT)
    directory = the_run(tmp_path)
    with (directory / "coefficients.csv").open() as file:
        coefficients = {row["feature"]: float(row["coefficient"]) for row in csv.DictReader(file)}
    status, _, _ = run(["predict", "--ckpt_path", "last", "--output", "all.parquet", "--id", "age"])
    assert status == 0
    table = polars.read_parquet(tmp_path / "all.parquet")
    assert table.columns == ["row", "age", "target"]
    frame = load_diabetes(as_frame=True).data
    expected = coefficients.pop("(intercept)") + sum(frame[name] * value for name, value in coefficients.items())
    assert table["row"].to_list() == list(range(1, len(frame) + 1))  # counted as messages count
    assert table["target"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-5, abs=1e-3)


def test_settings_come_from_the_run(run, tmp_path, capsys):
    run([*SHORT, "--data.seed", "3", "--model.loss", "l1"])
    directory = the_run(tmp_path)
    status, _, _ = run(["validate", "--ckpt_path", str(directory)])
    assert status == 0
    first, second = [row["val/loss"] for row in rows(directory) if "val/loss" in row][-2:]
    assert second == pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
def test_a_flag_that_cannot_take_effect_is_refused(run, tmp_path, subcommand):
    run(SHORT)
    status, _, errors = run([subcommand, "--ckpt_path", "last", "--model.optimizer.lr", "1"])
    assert status == 2
    assert "--model.optimizer cannot change: the checkpoint was trained with nesterov(lr=0.05" in errors
    assert run([subcommand, "--ckpt_path", "last", "--model.optimizer.lr", "0.05", "--trainer.max_epochs", "4"])[0] == 0


def test_opening_the_test_split_is_recorded(run, tmp_path):
    run(SHORT)
    assert run(["test"])[2] == ""
    _, printed, errors = run(["test", "--ckpt_path", "last"])
    assert "this test split was opened before, 1 × (20" in errors
    assert "rmse" in printed
    openings = [json.loads(line) for line in (tmp_path / "runs" / "test_ledger.jsonl").read_text().splitlines()]
    assert [opening["rows"] for opening in openings] == [88, 88]
    assert any("test/rmse" in row for row in rows(the_run(tmp_path)))


def test_the_ledger_knows_a_test_split_whatever_run_opens_it(run, tmp_path):
    frame = load_diabetes(as_frame=True).frame
    frame.head(300).to_csv("source.csv", index=False)
    frame.tail(142).to_csv("kept.csv", index=False)
    own = [
        "--data.source",
        "source.csv",
        "--data.target",
        "target",
        "--data.test",
        "kept.csv",
        "--data.split",
        "[.8,.2]",
    ]
    fits = {
        "the split": [],
        "another network's start and loss": ["--seed_everything", "3", "--model.loss", "l1"],
        "another split": ["--data.seed", "1"],
        "a test file": own,
        "the test file after another split of the source": [*own, "--data.seed", "2"],
    }
    warned = {}
    for name, flags in fits.items():
        assert run([*SHORT, *flags])[0] == 0
        warned[name] = "opened before, 1 ×" in run(["test", "--ckpt_path", "last"])[2]
    assert [name for name, again in warned.items() if again] == [list(fits)[1], list(fits)[4]]
    openings = [json.loads(line) for line in (tmp_path / "runs" / "test_ledger.jsonl").read_text().splitlines()]
    assert len({opening["run"] for opening in openings}) == 5
    assert {opening["recipe"] for opening in openings} == {"linear_regression"}


def test_a_damaged_line_of_the_ledger_is_passed_over(run, tmp_path):
    run(SHORT)
    run(["test"])
    ledger = tmp_path / "runs" / "test_ledger.jsonl"
    ledger.write_text(ledger.read_text() + '{"time": "20\n')
    status, _, errors = run(["test"])
    assert status == 0
    assert "opened before, 1 ×" in errors


def test_predict_new_rows_without_a_target(run, tmp_path):
    run(SHORT)
    frame = polars.DataFrame(load_diabetes(as_frame=True).data.head(7).to_dict("list"))
    frame.write_csv(tmp_path / "new.csv")
    status, printed, _ = run(["predict", "--data.source", "new.csv"])
    assert status == 0
    assert "7 predictions" in printed
    table = polars.read_csv(the_run(tmp_path) / "predictions.csv")
    module = ComponentModule.load_from_checkpoint(the_run(tmp_path) / "checkpoints" / "best.ckpt", weights_only=True)
    assert table["target"].to_list() == pytest.approx(module.predict(frame)["target"].to_list(), rel=1e-12)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output", "table.xlsx"], ".csv or .parquet"),
        (["--output", "nowhere/table.csv"], "no directory nowhere"),
        (
            ["--output", "folder.csv"],
            "--output folder.csv cannot be written (Is a directory); or name a file",
        ),
        (["--id", "name"], "the input has no such column"),
        (["--id", "target"], "--id target: the output has columns row, target; repeat another one"),
        (["--trainer.accelerator", "cpu", "--trainer.devices", "2"], "one process"),
        (["--data.source", "iris"], "iris has no columns age"),
    ],
)
def test_refused_predictions(run, tmp_path, flags, message):
    run(SHORT)
    (tmp_path / "folder.csv").mkdir()
    status, _, errors = run(["predict", *flags])
    assert status == 2
    assert message in errors
    assert not (the_run(tmp_path) / "predictions.csv").exists()


def test_a_checkpoint_outside_a_run_directory_suffices(run, tmp_path):
    run(SHORT)
    (the_run(tmp_path) / "checkpoints" / "last.ckpt").rename(tmp_path / "moved.ckpt")
    assert run(["test", "--ckpt_path", "moved.ckpt"])[0] == 0
    (opening,) = (tmp_path / "runs" / "test_ledger.jsonl").read_text().splitlines()
    assert json.loads(opening)["run"] is None


def test_what_the_data_module_noticed_is_said_once(run, tmp_path):
    frame = load_diabetes(as_frame=True).frame
    table = polars.DataFrame(frame.to_dict("list")).with_columns(flat=polars.lit(3.0))
    table[0, "age"] = None
    table.write_csv(tmp_path / "gap.csv")
    data = ["--data.source", "gap.csv", "--data.target", "target", "--data.impute", "drop"]
    _, printed, errors = run([*SHORT, *data])
    assert errors == ""
    assert printed.count("note: left out: 1 of 442 rows, which have missing values (--data.impute drop)") == 1
    assert printed.count("note: constant in the training split, so without effect: flat") == 1


def test_a_checkpoint_without_its_weights_cannot_be_gone_on_from(run, tmp_path):
    run(SHORT)
    content = torch.load(the_run(tmp_path) / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({**content, "state_dict": {}}, tmp_path / "hollow.ckpt")
    status, _, errors = run(["fit", "--ckpt_path", "hollow.ckpt", "--trainer.max_epochs", "5"])
    assert status == 2
    assert "hollow.ckpt does not hold the weights of its components" in errors
    assert len(list((tmp_path / "runs" / "linear_regression").iterdir())) == 1


def test_nothing_validated_is_said(run, tmp_path):
    status, printed, _ = run([*SHORT, "--data.split", "[1,0,0]"])
    assert status == 0
    assert "nothing" in printed
    assert [path.name for path in (the_run(tmp_path) / "checkpoints").iterdir()] == ["last.ckpt"]


def test_other_data_cannot_resume(run, tmp_path):
    run(SHORT)
    status, _, errors = run(["fit", "--ckpt_path", "last", "--data.seed", "5", "--trainer.max_epochs", "5"])
    assert status == 2
    assert "not those this checkpoint was trained on" in errors


def test_a_setup_that_is_refused_leaves_nothing(run, tmp_path):
    status, _, errors = run([*SHORT, "--model.scheduler", "plateau", "--model.scheduler.monitor", "val/nothing"])
    assert status == 2
    assert "val/nothing" in errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("plugins", "summed"), [([], True), (["--trainer.plugins+=AsyncCheckpointIO"], False)])
def test_checkpoints_carry_a_checksum_unless_the_user_writes_them_otherwise(run, tmp_path, plugins, summed):
    status, _, errors = run([*SHORT, *plugins])
    assert (status, errors) == (0, "")
    for name in ("best.ckpt", "last.ckpt"):
        written = (the_run(tmp_path) / "checkpoints" / name).read_bytes()
        assert written[:-64].endswith(b"torchplug sha256 ") == summed
    assert run(["predict", "--ckpt_path", "last"])[0] == 0


def test_the_configuration_names_a_plugins_distribution(run, tmp_path, distributions):
    """After its uninstallation the name may be another distribution's."""
    target = "torchplug.components.builtin.losses:MSE"
    distributions.offer("acme", ("losses", "squares", target), ("optimizers", "descent", "torch.optim:SGD"))
    assert (
        run([*SHORT, "--model.loss", "squares", "--model.optimizer", "descent", "--model.optimizer.lr", "0.01"])[0] == 0
    )
    config = yaml.safe_load((the_run(tmp_path) / "config.yaml").read_text())["model"]
    assert config["loss"]["class_path"] == "acme:squares"
    assert config["optimizer"]["class_path"] == "acme:descent"
    assert config["model"]["class_path"] == "linear"
    assert run(["fit", "--config", str(the_run(tmp_path) / "config.yaml")])[0] == 0
