"""The command `search`."""

import json
from pathlib import Path

import polars as pl
import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import DEFAULT_SWEEP_COMMAND, create_sweep_command_args
from wandb.sdk.sweeps.scheduler.optuna import sweep_parameter_to_distribution

from recipe_processes import run_directories

SHORT = ["--trainer.max_epochs", "2", "--tracking.mode", "disabled"]
GRID = ["--grid", "model.optimizer.lr=0.01,0.1"]


def the_run(folder, recipe="linear_regression"):
    (directory,) = run_directories(folder, f"{recipe}-search")
    return directory


def test_a_search_and_a_fit_of_the_best(run, tmp_path):
    status, printed, errors = run(
        [
            *("search", *SHORT, *GRID, "--grid", "data.batch_size=32,64"),
            *("--random", "model.regularizers.0.coefficient=log(1e-6,1e-1)", "--model.regularizers+=l2"),
            *("--trials", "6", "--repeats", "2"),
        ]
    )
    assert (status, errors) == (0, "")
    directory = the_run(tmp_path)
    trials = pl.read_csv(directory / "trials.csv")
    assert trials.height == 6
    for line in ("note: trained 6 models in", "the best of 6 trials", "the best trial from 2 other seeds: val/loss"):
        assert line in printed
    for name in ("trials.csv", "importances.png", "coordinates.png", "slices.png", "best.yaml"):
        assert str(directory.relative_to(tmp_path) / name) in printed
    status, _, errors = run(["fit", "--config", str(directory / "best.yaml")])
    assert (status, errors) == (0, "")
    (fitted,) = run_directories(tmp_path, "linear_regression")
    rows = [json.loads(line) for line in (fitted / "metrics.jsonl").read_text().splitlines()]
    last = [row["val/loss"] for row in rows if "val/loss" in row][-1]
    assert last == pytest.approx(trials["val/loss"].min(), rel=1e-4)


def test_a_parameter_of_a_penalty_by_its_number(run, tmp_path):
    flags = [
        "--model.regularizers",
        "[{class_path: l1}, {class_path: l2}]",
        "--model.regularizers.0.coefficient",
        "0.5",
    ]
    assert run(["fit", *SHORT, *flags])[0] == 0
    (fitted,) = run_directories(tmp_path, "linear_regression")
    penalties = yaml.safe_load((fitted / "config.yaml").read_text())["model"]["regularizers"]
    assert [own["init_args"]["coefficient"] for own in penalties] == [0.5, 1e-4]
    status, _, errors = run(["fit", *SHORT, *flags, "--model.regularizers.2.coefficient", "1"])
    assert status == 2
    assert "there are 2, counted from 0" in errors


def test_weights_and_biases_take_the_sweep(run, tmp_path):
    status, printed, _ = run(
        [
            *("search", *SHORT, "--grid", "model.optimizer=adam,sgd", "--model.regularizers+=l2", "--sampler", "tpe"),
            *("--random", "model.optimizer.lr=log(1e-4,1e-1)", "--random", "data.batch_size=int(16,64)"),
            *("--random", "model.regularizers.0.coefficient=uniform(0,1)", "--metric", "val/r2", "--trials", "9"),
            *("--grid", "data.scale=standard,none", "--tracking.project", "studies"),
            *("--export-wandb", "sweep.yaml"),
        ]
    )
    assert status == 0
    assert "start it with: wandb sweep sweep.yaml" in printed
    assert not (tmp_path / "runs").exists()
    sweep = yaml.safe_load((tmp_path / "sweep.yaml").read_text())  # as `wandb sweep` reads it
    assert sweep.keys() == {"project", "program", "method", "metric", "parameters", "run_cap"}
    assert (sweep["project"], Path(sweep["program"]).name) == ("studies", "linear_regression.py")
    assert sweep["method"] == "bayes"
    assert sweep["metric"] == {"name": "val/r2", "goal": "maximize"}
    assert sweep["run_cap"] == 9
    parameters = sweep["parameters"]
    for name, parameter in parameters.items():
        sweep_parameter_to_distribution(parameter)  # refuses what W&B does not know
        assert parameter.keys() in ({"value"}, {"values"}, {"distribution", "min", "max"}), name
    assert parameters["model.optimizer"] == {"values": ["adam", "sgd"]}
    assert parameters["model.optimizer.lr"] == {"distribution": "log_uniform_values", "min": 1e-4, "max": 0.1}
    assert parameters["data.batch_size"] == {"distribution": "int_uniform", "min": 16, "max": 64}
    assert parameters["trainer.max_epochs"] == {"value": 2}
    assert DEFAULT_SWEEP_COMMAND == ["${env}", "${interpreter}", "${program}", "${args}"]  # without a subcommand
    chosen = {
        name: {"value": parameter.get("value", parameter.get("values", [parameter.get("min")])[-1])}
        for name, parameter in sorted(parameters.items(), reverse=True)  # the agent gives them in any order
    }
    assert run(create_sweep_command_args({"args": chosen})["args"])[0] == 0
    (fitted,) = run_directories(tmp_path, "linear_regression")
    config = yaml.safe_load((fitted / "config.yaml").read_text())
    model = config["model"]
    assert config["data"]["scale"] == "none"
    assert model["optimizer"] == {"class_path": "sgd", "init_args": {"lr": 1e-4}}
    assert model["regularizers"][0]["init_args"]["coefficient"] == 0.0


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ([], "there is nothing to search"),
        (["--grid", "model.optimizer.lr="], "--grid model.optimizer.lr: an empty list of values"),
        (["--grid", "model.optimiser.lr=1,2"], "did you mean model.optimizer?"),
        (["--grid", "model.optimizer.lr=small,large"], "--grid model.optimizer.lr: expected float, got small"),
        (["--random", "model.optimizer.lr=log(1,0.1)"], "log(1,0.1) is reversed"),
        (["--random", "model.optimizer.lr=log(0,1)"], "log(0,1) begins at 0"),
        (["--random", "model.optimizer.lr=log(1e-3,1)", "--sampler", "grid"], "a grid has no log(0.001,1.0)"),
        ([*GRID, "--trials", "0"], "--trials must be at least 1, not 0"),
        ([*GRID, "--jobs", "0"], "--jobs must be at least 1, not 0"),
        ([*GRID, "--storage", "sqlite:////nowhere/there.db"], "cannot be opened or written"),
        ([*GRID, "--resume", "last"], "there is no run in runs/linear_regression-search yet"),
        ([*GRID, "--sampler", "best"], "--sampler: expected 'grid' or 'random' or 'tpe' or null, got best"),
        (
            ["--grid", "model.optimizer=adam,sgd", "--grid", "model.optimizer.eps=1,2", "--export-wandb", "s.yaml"],
            "belongs to some of the components",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(run, tmp_path, flags, reason):
    status, _, errors = run(["search", *SHORT, *flags])
    assert (status, errors.count("\n")) == (2, 1)
    assert reason in errors
    assert list(tmp_path.iterdir()) == []
