"""Defaults that follow from the data: the MLP recipe's rules, and what overrides them."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from recipe_calls import load
from recipe_processes import TORCHRUN, TWO_RANKS, finish, start
from torchplug import TabularData, recipe, use
from torchplug.data import in_memory
from torchplug.preprocessing.target_fit import guess_kind

SHORT = ["--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"]
TARGETS = {
    "numbers": [0.5 * i for i in range(60)],
    "two": ["yes", "no", "no"] * 20,
    "three": ["a", "b", "c"] * 20,
    "whole": [3, 4, 5, 6] * 15,
    "coded": [0, 1, 2] * 20,
    "zero_one": [0, 1] * 30,
}


@pytest.fixture
def table(tmp_path):
    """60 rows of two features and a target of each kind, as a file in the working directory."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"u": rng.normal(size=60), "v": rng.normal(size=60), **TARGETS})
    frame.write_csv(tmp_path / "t.csv")
    return frame


def arguments(target):
    others = [name for name in TARGETS if name != target]
    return ["--data.source", "t.csv", "--data.target", target, "--data.exclude", json.dumps(others)]


def run_directory():
    return max(Path("runs", "mlp").iterdir())


def config():
    return yaml.safe_load((run_directory() / "config.yaml").read_text())


@pytest.mark.parametrize(
    ("target", "loss", "task"),
    [
        ("numbers", "mse", "regression"),
        ("two", "bce", "binary"),
        ("three", "cross_entropy", "multiclass"),
        ("whole", "mse", "regression"),
        ("coded", "cross_entropy", "multiclass"),
        ("zero_one", "bce", "binary"),
    ],
)
def test_the_loss_follows_the_target(run, table, target, loss, task):
    status, printed, errors = run(["fit", *arguments(target), *SHORT], "mlp")
    assert (status, errors) == (0, "")
    assert f"note: chosen for 36 rows × 2 features ({task}): " in printed
    assert config()["model"]["loss"]["class_path"] == loss
    assert f", {loss}" in (run_directory() / "notes.txt").read_text()
    assert run(["test"], "mlp")[0] == 0


def test_whole_numbers_that_are_read_as_classes_are_noted(run, table):
    _, printed, _ = run(["fit", *arguments("coded"), *SHORT], "mlp")
    assert "note: target 'coded' is read as 3 classes, 0 to 2; --model.loss mse reads it as numbers" in printed
    status, printed, _ = run(["fit", *arguments("coded"), *SHORT, "--model.loss", "mse"], "mlp")
    assert status == 0
    assert "read as" not in printed
    assert "(regression)" in printed
    assert config()["model"]["loss"]["class_path"] == "mse"


def test_a_loss_that_does_not_go_with_the_target_is_refused(run, table):
    status, _, errors = run(["fit", *arguments("three"), "--model.loss", "mse"], "mlp")
    assert status == 2
    assert "mse needs numbers, and target 'three' has labels" in errors
    assert len(errors.splitlines()) == 1
    assert not Path("runs").exists()


def test_everything_overrides_the_rules(command_of, table, tmp_path, monkeypatch):
    (tmp_path / "my.yaml").write_text("data: {batch_size: 7}\nmodel: {optimizer: {init_args: {lr: 0.5}}}\n")
    monkeypatch.setenv("TORCHPLUG_FIT__TRAINER__MAX_EPOCHS", "9")
    line = ["fit", "--config", "my.yaml", *arguments("numbers"), "--model.model.hidden", "[3]"]
    command = command_of(line)
    specs = command.settings.model
    assert (specs["model"].parameters["hidden"], specs["optimizer"].parameters["lr"]) == ([3], 0.5)
    assert (command.settings.data["batch_size"], command.settings.trainer["max_epochs"]) == (7, 9)
    assert command.data().batch_size == 7
    assert specs["loss"].name == "mse"
    (note,) = command.notes
    assert "mse" in note
    for overridden in ("hidden", "lr", "batch_size", "max_epochs"):
        assert overridden not in note


def test_a_parameter_of_the_loss_that_follows(command_of, table):
    loss = command_of(["fit", *arguments("three"), "--model.loss.label_smoothing", "0.1"]).settings.model["loss"]
    assert (loss.name, loss.parameters["label_smoothing"]) == ("cross_entropy", 0.1)


def test_a_loss_of_a_plugin_decides_the_task(command_of, table):
    command = command_of(["fit", *arguments("coded"), "--model.loss", "poisson_nll"])
    assert "(regression)" in command.notes[0]
    command = command_of(["fit", *arguments("zero_one"), "--model.loss", "hinge"])
    assert "(binary)" in command.notes[0]


def test_a_setting_that_is_no_component_follows_from_the_table(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def adapt(summary):
        model = {"model": use("linear"), "loss": use("bce"), "calibrate": summary.task == "binary"}
        return {"model": {**model, "optimizer": use("adam")}}

    settings = recipe.Settings({}, {}, {"max_epochs": 1}, adapt=adapt)
    for flags, chosen, note in (((), True, True), (("--model.calibrate", "false"), False, False)):
        command = recipe.parse("own.py", ["fit", *arguments("two"), *flags], settings)
        assert command.settings.model["calibrate"] is chosen
        assert ("calibrate True" in command.notes[0]) is note


def test_printed_configuration_is_resolved_and_read_again(run, command_of, table, tmp_path):
    line = ["fit", *arguments("three"), "--print_config"]
    status, printed, _ = run(line, "mlp")
    assert status == 0
    content = yaml.safe_load(printed)
    assert content["model"]["loss"]["class_path"] == "cross_entropy"
    assert isinstance(content["data"]["batch_size"], int)
    (tmp_path / "again.yaml").write_text(printed)
    assert command_of(["--config", "again.yaml"]).config() == command_of(line[:-1]).config()


def test_help_reads_no_table(run):
    status, printed, _ = run(["fit", "--data.source", "missing.csv", "--help"], "mlp")
    assert status == 0
    chosen = load("mlp").adapt(recipe.TableSummary(100, 5, "regression"))
    expected = sum(len(group) for group in chosen.values())
    assert " ".join(printed.split()).count("= by the data") == expected


@pytest.mark.parametrize("line", [[], ["--print_config"]])
def test_a_table_that_cannot_be_read(run, line):
    status, _, errors = run(["fit", "--data.source", "missing.csv", "--data.target", "y", *line], "mlp")
    assert status == 2
    assert len(errors.splitlines()) == 1
    assert "missing.csv" in errors
    assert not Path("runs").exists()


def test_the_table_is_read_and_encoded_once(run, table, monkeypatch):
    calls = []
    for owner, name in ((in_memory, "open_table"), (in_memory, "encoded")):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, o=original, n=name: calls.append(n) or o(*a))
    assert run(["fit", *arguments("numbers"), *SHORT], "mlp")[0] == 0
    assert sorted(calls) == ["encoded", "open_table"]


def test_a_checkpoint_brings_its_settings(run, table):
    line = ["fit", *arguments("numbers"), *SHORT, "--model.model.hidden", "[5]", "--data.batch_size", "9"]
    assert run(line, "mlp")[0] == 0
    first = config()
    status, printed, _ = run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3"], "mlp")
    assert status == 0
    assert "chosen for" not in printed
    assert config() == {**first, "trainer": {**first["trainer"], "max_epochs": 3}}
    status, printed, _ = run(["predict", "--data.source", "t.csv", "--output", "p.csv"], "mlp")
    assert status == 0
    assert "chosen for" not in printed
    assert pl.read_csv("p.csv").height == 60


@pytest.mark.filterwarnings("ignore:val. r2 undefined")  # there is one validation row
def test_five_rows(run, tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1.5,2.5\n2,3\n3,5.5\n4.5,7\n5,11\n")
    status, printed, _ = run(["fit", "--data.source", "t.csv", "--data.target", "y", *SHORT], "mlp")
    assert status == 0
    assert "chosen for 3 rows × 1 features (regression)" in printed


def test_the_epoch_that_is_kept_is_named(run, table):
    _, printed, _ = run(["fit", *arguments("numbers"), *SHORT], "mlp")
    (line,) = [line for line in printed.splitlines() if line.startswith("best: ")]
    assert line.startswith(("best: epoch 1 of 2", "best: epoch 2 of 2"))
    rows = [json.loads(text) for text in (run_directory() / "metrics.jsonl").read_text().splitlines()]
    losses = [row["val/loss"] for row in rows if "val/loss" in row]
    assert f"epoch {1 + int(np.argmin(losses))} of 2" in line


def test_ranks_choose_the_same(tmp_path, table):
    fit = ("fit", *arguments("numbers"), *SHORT, *TWO_RANKS)
    status, printed, errors = finish(start(tmp_path, "mlp", *fit, launcher=TORCHRUN))
    assert status == 0, errors
    assert printed.count("chosen for 36 rows") == 1


@pytest.mark.parametrize("rows", [1, 3, 100, 1_000, 10_000, 1_000_000])
@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
@pytest.mark.parametrize("model", [None, "mlp"])
def test_rules(rows, task, model):
    def chosen(rows):
        return load("mlp").adapt(recipe.TableSummary(rows, 10, task, model, validation_rows=10))

    one, twice = chosen(rows), chosen(2 * rows)
    assert {group: set(values) for group, values in one.items()} == {
        "model": {"model", "loss", "optimizer", "scheduler", "calibrate"},
        "data": {"scale", "batch_size"},
        "trainer": {"max_epochs"},
    }
    assert one["model"]["model"].name == (model or "realmlp")
    assert one["model"]["loss"].name == {"regression": "mse", "binary": "bce"}.get(task, "cross_entropy")
    assert 1 <= one["data"]["batch_size"] <= 512
    steps = one["trainer"]["max_epochs"] * -(-rows // one["data"]["batch_size"])
    assert steps <= 400_000  # tens of seconds for tables of tens of thousands of rows
    assert twice["trainer"]["max_epochs"] <= one["trainer"]["max_epochs"]


@pytest.mark.parametrize("rows", [255, 256, 257, 300, 511, 512, 513, 1_025, 99_999])
def test_batches_have_nearly_the_same_size(rows):
    size = load("mlp").adapt(recipe.TableSummary(rows, 10, "regression"))["data"]["batch_size"]
    batches = -(-rows // size)
    assert size - (rows - (batches - 1) * size) <= batches, "the last one lacks at most one row for each batch"


def test_smoothed_labels_come_with_a_temperature(command_of, table):
    def settings(*flags):
        return command_of(["fit", *arguments("two"), *flags]).settings.model

    with_rows, without = settings(), settings("--data.split", "[1,0,0]")
    assert (with_rows["calibrate"], with_rows["loss"].parameters["label_smoothing"]) == (True, 0.1)
    assert (without["calibrate"], without["loss"].parameters["label_smoothing"]) == (False, 0.0)


def test_labels_of_a_rare_class_are_not_smoothed(command_of, table, tmp_path):
    """Smoothing by 0.1 gives each of k classes the probability 0.1/k, more than a rarer one has."""

    def smoothing(rare):
        labels = ["rare"] * rare + ["often"] * (1000 - rare)
        pl.DataFrame({"x": np.arange(1000.0), "y": labels}).write_csv("rare.csv")
        command = command_of(["fit", "--data.source", "rare.csv", "--data.target", "y"])
        return command.settings.model["loss"].parameters["label_smoothing"], command.settings.model["calibrate"]

    assert smoothing(40) == (0.0, True)  # stratified: 4 % of the training rows
    assert smoothing(60) == (0.1, True)


@pytest.mark.parametrize("target", ["numbers", "two", "three"])
def test_another_network_brings_its_own_settings(command_of, table, target):
    own, other = (command_of(["fit", *arguments(target), *flags]) for flags in ([], ["--model.model", "mlp"]))
    named = [(c.settings.model["optimizer"].name, c.settings.model["scheduler"].name) for c in (own, other)]
    assert named == [("adamw", "coslog"), ("adam", "one_cycle" if target == "numbers" else "cosine")]
    assert other.settings.data["batch_size"] == 16
    deep = command_of(["fit", *arguments(target), "--model.model", "resnet"]).settings.model
    assert (deep["model"].name, deep["optimizer"].name) == ("resnet", "adam")


def test_a_streamed_table_is_standardized(command_of, table, tmp_path):
    table.write_parquet("t.parquet")
    line = ["fit", "--data.source", "t.parquet", *arguments("numbers")[2:]]
    assert command_of(line).settings.data["scale"] == "robust"
    assert command_of([*line, "--data.stream", "true"]).settings.data["scale"] == "standard"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.0, 1.0] * 20, "binary"),
        ([1, 2, 3] * 20, "multiclass"),
        ([1, 2, 3, 4, 5], "regression"),  # too few of each
        ([0, 2, 4] * 20, "regression"),
        (list(range(21)) * 10, "regression"),
        ([0.5, 1.5] * 20, "regression"),
        ([True, False, None] * 5, "binary"),
        (["a", "b", None, "c"] * 5, "multiclass"),
        ([f"name {i}" for i in range(50)], "multiclass"),
        ([None, float("nan"), 1.0], "regression"),
    ],
)
@pytest.mark.parametrize("size", [3, 1000])
def test_the_kind_of_a_target(values, kind, size):
    frame = pl.DataFrame({"y": values}, strict=False)
    blocks = [frame[start : start + size] for start in range(0, frame.height, size)]
    assert guess_kind(blocks)[0] == kind


def test_several_target_columns_are_numbers():
    assert guess_kind([pl.DataFrame({"a": ["x"], "b": ["y"]})])[0] == "regression"


def test_a_streamed_table_gives_the_same(tmp_path, table):
    table.write_parquet(tmp_path / "t.parquet")
    os.chdir(tmp_path)
    for target in TARGETS:
        kinds = {TabularData("t.parquet", target, stream=stream).guess_kind() for stream in (False, True)}
        assert len(kinds) == 1
