"""What the command line accepts, and what it makes of it."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from torchplug.recipe.subcommands import SUBCOMMANDS
from torchplug.registry.component import use

ACCEPTED = {
    # the defaults for digits: adamw(lr=0.04), realmlp([128, 128, 128]), cross_entropy, coslog, no regularizer
    "": {},
    "fit": {},
    "fit --model.optimizer.lr 0.1": {"optimizer": ("adamw", {"lr": 0.1})},
    "--model.optimizer.lr 0.1": {"optimizer": ("adamw", {"lr": 0.1})},
    "fit --model.optimizer adam --model.optimizer.lr 0.01": {"optimizer": ("adam", {"lr": 0.01})},
    "fit --model.optimizer=sgd --model.optimizer.lr=0.01": {"optimizer": ("sgd", {"lr": 0.01})},
    "fit --model.optimizer nesterov --model.optimizer.lr 0.05": {"optimizer": ("nesterov", {"lr": 0.05, "beta": 0.9})},
    "fit --model.optimizer torchplug:adamw": {"optimizer": ("adamw", {"lr": 0.04})},
    "fit --model.optimizer '{class_path: sgd, init_args: {lr: 3}}'": {"optimizer": ("sgd", {"lr": 3.0})},
    "fit --model.optimizer.class_path sgd --model.optimizer.init_args.lr 3": {"optimizer": ("sgd", {"lr": 3.0})},
    "fit --model.optimizer.betas [0.8,0.9]": {"optimizer": ("adamw", {"betas": (0.8, 0.9)})},
    "fit --model.model mlp --model.model.hidden '[64,64]'": {"model": ("mlp", {"hidden": [64, 64]})},
    "fit --model.model.hidden+=32": {"model": ("realmlp", {"hidden": [128, 128, 128, 32]})},
    "fit --model.model linear": {"model": ("linear", {"bias": True})},
    "fit --model.model linear --model.model.bias false": {"model": ("linear", {"bias": False})},
    "fit --model.loss mse --model.loss.per_output mean": {"loss": ("mse", {"per_output": "mean"})},
    "fit --model.loss huber --model.loss.delta 2": {"loss": ("huber", {"delta": 2.0})},
    "fit --model.loss torchplug-robust:huber --model.loss.delta 2": {
        "loss": ("torchplug-robust:huber", {"delta": 2.0})
    },
    "fit --model.loss torchplug_robust:huber": {"loss": ("torchplug-robust:huber", {"delta": 1.0})},
    "fit --model.scheduler inverse_time --model.scheduler.decay 0.1": {"scheduler": ("inverse_time", {"decay": 0.1})},
    "fit --model.scheduler null": {"scheduler": None},
    "fit --model.reduction sum": {},
    "fit --model '{optimizer: sgd}'": {"optimizer": ("sgd", {})},
    "--data.split [1,0,0] --data.batch_size full": {},
    "--data.source my.csv --data.target [x,y] --data.seed 3": {"loss": ("mse", {})},
    "--trainer.accelerator cpu --trainer.devices 2 --trainer.strategy ddp": {},
    "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor val/loss": {},
    "--seed_everything 7": {},
    "--tracking.mode offline --tracking.tags+=a --tracking.tags+=b": {},
    (
        "fit --data.source my.csv --data.target y --model.loss huber --model.loss.delta 2 --model.optimizer nesterov "
        "--model.optimizer.lr 0.05 --model.regularizers+=l2 --model.regularizers.coefficient 1e-4 "
        "--model.scheduler inverse_time --model.scheduler.decay 0.1 --trainer.max_epochs 50"
    ): {
        "optimizer": ("nesterov", {"lr": 0.05}),
        "loss": ("huber", {"delta": 2.0}),
        "scheduler": ("inverse_time", {"decay": 0.1}),
    },
}


@pytest.mark.parametrize("line", ACCEPTED)
def test_accepted(command_of, tmp_path, line):
    (tmp_path / "my.csv").write_text("z,x,y\n" + "".join(f"{i % 7}.5,{i}.25,{i % 3}.5\n" for i in range(20)))
    specs = command_of(shlex.split(line)).settings.model
    wanted = ACCEPTED[line]
    other = wanted.get("model", ("realmlp",))[0] != "realmlp"  # which brings its own defaults
    defaults = {
        "model": ("realmlp", {}),
        "loss": ("cross_entropy", {}),
        "optimizer": ("adam" if other else "adamw", {}),
        "scheduler": ("cosine" if other else "coslog", {}),
    }
    for slot, expected in (defaults | wanted).items():
        if expected is None:
            assert specs[slot] is None
        else:
            name, parameters = expected
            assert specs[slot].name == name
            assert parameters.items() <= specs[slot].parameters.items()


def test_a_list_grows_by_plus(command_of):
    line = "--model.regularizers+=l1 --model.regularizers.coefficient 3 --model.regularizers+=l2"
    first, second, third = command_of(
        [*line.split(), "--model.regularizers.coefficient", "4"], "logistic_regression"
    ).settings.model["regularizers"]
    assert (first.name, first.parameters["coefficient"]) == ("l2", 1 / (2 * 341))
    assert (second.name, second.parameters["coefficient"]) == ("l1", 3.0)
    assert (third.name, third.parameters["coefficient"]) == ("l2", 4.0)


def test_a_list_is_replaced(command_of):
    assert command_of(["--model.regularizers", "[]"], "logistic_regression").settings.model["regularizers"] == []
    (only,) = command_of(["--model.regularizers", "[l1]"], "logistic_regression").settings.model["regularizers"]
    assert only.name == "l1"


def test_a_component_inside_a_component(command_of):
    line = "--model.scheduler warmup --model.scheduler.epochs 2 --model.scheduler.after cosine"
    scheduler = command_of([*line.split(), "--model.scheduler.after.min_lr", "0.1"]).settings.model["scheduler"]
    assert scheduler.name == "warmup"
    assert scheduler.parameters["after"] == use("cosine", min_lr=0.1, interval="epoch")


def test_another_component_starts_from_its_own_defaults(command_of, tmp_path, recwarn):
    own = command_of(["--model.optimizer", "rmsprop"]).settings.model["optimizer"].parameters["lr"]
    assert own != 0.04  # the recipe's, for adamw
    (tmp_path / "my.yaml").write_text("model: {optimizer: {class_path: adam, init_args: {lr: 0.3}}}\n")
    assert command_of(["--config", "my.yaml"]).settings.model["optimizer"].parameters["lr"] == 0.3
    changed = command_of(["--config", "my.yaml", "--model.optimizer", "rmsprop"]).settings.model["optimizer"]
    assert changed.parameters["lr"] == own
    assert not recwarn


@pytest.mark.parametrize(
    ("content", "name", "lr"),
    [
        ("model: {optimizer: nesterov}", "nesterov", 0.01),
        ("model: {optimizer: {class_path: nesterov, init_args: {lr: 0.2}}}", "nesterov", 0.2),
        ("model: {optimizer: {init_args: {lr: 0.3}}}", "adamw", 0.3),
        ("{'model': {'optimizer': {'class_path': 'torchplug:sgd', 'init_args': {'lr': 0.2}}}}", "sgd", 0.2),
    ],
)
def test_configuration_files(command_of, tmp_path, content, name, lr):
    (tmp_path / "my.yaml").write_text(content)
    optimizer = command_of(["fit", "--config", "my.yaml"]).settings.model["optimizer"]
    assert (optimizer.name, optimizer.parameters["lr"]) == (name, lr)


def test_a_configuration_file_of_subcommands_comes_before_them(command_of, tmp_path):
    (tmp_path / "my.yaml").write_text("fit: {model: {loss: 'torchplug-robust:huber'}, trainer: {max_epochs: 3}}")
    command = command_of(["--config=my.yaml", "fit"])
    assert command.settings.model["loss"].name == "torchplug-robust:huber"
    assert command.settings.trainer["max_epochs"] == 3


def test_a_configuration_file_may_set_other_subcommands_too(command_of, monkeypatch, tmp_path):
    (tmp_path / "my.yaml").write_text("fit: {trainer: {max_epochs: 3}}\ntest: {trainer: {limit_test_batches: 2}}")
    assert command_of(["--config", "my.yaml", "fit"]).settings.trainer["max_epochs"] == 3
    monkeypatch.setenv("TORCHPLUG_CONFIG", "my.yaml")
    assert command_of(["fit"]).settings.trainer["max_epochs"] == 3


def test_environment(command_of, monkeypatch):
    monkeypatch.setenv("TORCHPLUG_FIT__MODEL__OPTIMIZER", "sgd")
    monkeypatch.setenv("TORCHPLUG_FIT__MODEL__LOSS", "torchplug-robust:huber")
    monkeypatch.setenv("TORCHPLUG_FIT__TRAINER__MAX_EPOCHS", "7")
    command = command_of([])
    assert command.settings.model["optimizer"].name == "sgd"
    assert command.settings.model["loss"].name == "torchplug-robust:huber"
    assert command.settings.trainer["max_epochs"] == 7
    assert command_of(["--trainer.max_epochs", "8"]).settings.trainer["max_epochs"] == 8  # flags come last


@pytest.mark.parametrize("recipe", ["linear_regression", "logistic_regression", "mlp"])
def test_the_yaml_beside_a_recipe_says_the_same(command_of, recipe):
    file = Path(__file__).parents[2] / "recipes" / f"{recipe}.yaml"
    assert command_of(["--config", str(file)], recipe).config() == command_of([], recipe).config()


def test_print_config_is_read_again(run, command_of, tmp_path):
    line = shlex.split(
        "fit --model.loss torchplug-robust:huber --model.loss.delta 2 "
        "--model.scheduler warmup --model.scheduler.epochs 2 --model.scheduler.after inverse_time "
        "--model.scheduler.after.decay 0.1 --model.regularizers+=elastic_net "
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor val/loss --data.split [0.8,0.1,0.1]"
    )
    status, printed, _ = run([*line, "--print_config"])
    assert status == 0
    content = yaml.safe_load(printed)
    assert content["model"]["loss"] == {"class_path": "torchplug-robust:huber", "init_args": {"delta": 2.0}}
    assert content["model"]["optimizer"]["class_path"] == "nesterov"
    assert content["model"]["scheduler"]["init_args"]["after"]["class_path"] == "inverse_time"
    (tmp_path / "again.yaml").write_text(printed)
    again = command_of(["fit", "--config", "again.yaml"], "linear_regression")
    assert again.config() == command_of(line, "linear_regression").config()
    assert again.settings.model == command_of(line, "linear_regression").settings.model


def test_help_of_a_component(run):
    status, printed, _ = run(["fit", "--model.optimizer.help", "adam"])
    assert status == 0
    assert "--model.optimizer.betas" in printed
    assert "--model.optimizer.lr: float = 0.001" in printed


def test_help_lists_all_subcommands(run):
    status, printed, _ = run(["--help"])
    assert status == 0
    for name, about in SUBCOMMANDS.items():
        assert f"{name} {about.summary.split()[0]}" in " ".join(printed.split())


def test_help_of_one_subcommand(run):
    status, printed, _ = run(["predict", "--help"])
    assert status == 0
    assert "--output" in printed


def test_help_names_components(run):
    status, printed, _ = run(["fit", "--help"])
    assert status == 0
    text = " ".join(printed.split())
    assert "--trainer.max_epochs" in text
    assert "Known: adam, adamw, momentum" in text
    assert "torchplug_optimizers" not in text


def test_only_named_components_are_imported(tmp_path):
    program = (
        "import sys; from torchplug import recipe, use\n"
        "components = {'model': use('linear'), 'loss': use('mse'), 'optimizer': use('sgd')}\n"
        "recipe.parse('mlp.py', ['fit'], recipe.Settings(components, {'source': 'iris'}))\n"
        "print(*(name in sys.modules for name in ('torchplug_robust', 'torchplug_robust.regression', 'wandb')))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert result.stdout.splitlines()[-1] == "True False False"
