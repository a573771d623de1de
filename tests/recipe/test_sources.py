"""Settings from files, variables and flags, in the forms that people and sweeps write."""

import json
import typing

import pytest
import yaml


@pytest.fixture
def resolved(run):
    """The configuration that a command line resolves to."""

    def config(*arguments):
        status, printed, errors = run([*arguments, "--print_config"])
        assert (status, errors) == (0, "")
        return yaml.safe_load(printed)

    return config


@pytest.mark.parametrize("null", ["--model.scheduler=None", "--model.scheduler=null"])
def test_none_is_null(resolved, null):
    assert resolved("--model.scheduler=cosine", null)["model"]["scheduler"] is None


def test_whole_floats_serve_as_whole_numbers(resolved, run):
    config = resolved("--trainer.max_epochs=3.0", "--data.batch_size=32.0", "--seed_everything=4.0")
    assert (config["trainer"]["max_epochs"], config["data"]["batch_size"], config["seed_everything"]) == (3, 32, 4)
    assert run(["--trainer.max_epochs=3.5"])[0] == 2
    assert "expected int or null, got 3.5" in run(["--trainer.max_epochs=3.5"])[2]


def test_shares_stay_shares(resolved):
    # from now on Python takes it for the Trainer's `Optional[int | float]`
    typing.Optional[float | int]  # noqa: UP045
    for text, value in {"1.0": 1.0, "1": 1}.items():
        limit = resolved(f"--trainer.limit_train_batches={text}")["trainer"]["limit_train_batches"]
        assert (limit, type(limit)) == (value, type(value))


def test_lists_of_whole_floats(resolved):
    model = resolved("--model.model.hidden=[8.0, 4.0]", "--model.model=mlp")["model"]["model"]
    assert model["init_args"]["hidden"] == [8, 4]


ADAM = [
    ["--model.optimizer.lr=0.1", "--model.optimizer=adam"],
    ["--model.optimizer.lr", "0.1", "--trainer.max_epochs", "2", "--model.optimizer", "adam"],
    ["--model.optimizer=sgd", "--model.optimizer.lr=0.1", "--model.optimizer=adam"],
    ["model.optimizer.lr=0.1", "model.optimizer=adam"],
    ["fit", "model.optimizer.lr=0.1", "--model.optimizer=adam"],
    [json.dumps({"model.optimizer.lr": 0.1, "model.optimizer": "adam", "model.scheduler": None})],
    ["fit", json.dumps({"model": {"optimizer": "adam"}}), "--model.optimizer.lr=0.1"],
    ["settings.json"],
]


@pytest.mark.parametrize("arguments", ADAM, ids=range(len(ADAM)))
def test_parameters_before_their_component(resolved, tmp_path, arguments):
    (tmp_path / "settings.json").write_text(json.dumps({"model.optimizer.lr": 0.1, "model.optimizer": "adam"}))
    optimizer = resolved(*arguments)["model"]["optimizer"]
    assert optimizer["class_path"] == "adam"
    assert optimizer["init_args"]["lr"] == 0.1


def test_components_within_components(resolved):
    arguments = ["--model.scheduler.after.decay=0.5", "--model.scheduler.after=exponential", "--model.scheduler=warmup"]
    after = resolved(*arguments)["model"]["scheduler"]["init_args"]["after"]
    assert after == {"class_path": "exponential", "init_args": {"decay": 0.5, "interval": "epoch"}}


def test_a_value_that_looks_like_a_setting(resolved):
    assert resolved("--tracking.name", "model.x=3")["tracking"]["name"] == "model.x=3"


@pytest.mark.parametrize("argument", ["{nonsense", '{"a": [}', "missing.json", "model.optimzer=adam", "[1]", "a=b"])
def test_refused(run, argument):
    status, _, errors = run([argument])
    assert (status, errors.count("\n")) == (2, 1)


def test_files_then_variables_then_flags(resolved, monkeypatch, tmp_path):
    (tmp_path / "general.yaml").write_text("fit: {data: {seed: 1, batch_size: 1}, trainer: {max_epochs: 1}}")
    (tmp_path / "own.yaml").write_text("data: {seed: 2, batch_size: 2}\ntrainer: {max_epochs: 2, min_epochs: 2}")
    (tmp_path / "trainer.yaml").write_text("max_steps: 7")
    monkeypatch.setenv("TORCHPLUG_CONFIG", "general.yaml")
    monkeypatch.setenv("TORCHPLUG_FIT__CONFIG", "own.yaml")
    monkeypatch.setenv("TORCHPLUG_FIT__DATA__SEED", "3")
    monkeypatch.setenv("TORCHPLUG_FIT__DATA", "{seed: 9, stratify: false}")
    config = resolved("--trainer.min_epochs=4", "--config", "{trainer: {min_epochs: 3}}", "--trainer", "trainer.yaml")
    assert (config["data"]["seed"], config["data"]["batch_size"], config["data"]["stratify"]) == (3, 2, False)
    trainer = config["trainer"]
    assert (trainer["max_epochs"], trainer["min_epochs"], trainer["max_steps"]) == (2, 4, 7)


def test_lists_grow(resolved, tmp_path):
    (tmp_path / "tags.yaml").write_text("tracking: {tags: [a]}\ndata: {features+: x}")
    config = resolved("--config", "tags.yaml", "--tracking.tags+=b", "--tracking.tags+", "[c, d]")
    assert config["tracking"]["tags"] == ["a", "b", "c", "d"]
    assert config["data"]["features"] == ["x"]


def test_what_differs_from_the_recipe(run):
    status, printed, _ = run(["fit", "--data.batch_size", "7", "--print_config=skip_default"])
    assert (status, yaml.safe_load(printed)) == (0, {"data": {"batch_size": 7}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: 3", "my.yaml: model: expected settings, got 3"),
        ("trainer: {max_epochs: [1]}", "my.yaml: trainer.max_epochs: expected int or null, got [1]"),
        ("config: other.yaml", "my.yaml: unknown setting config"),
        ("folds: 3", "my.yaml: folds is a setting of cross_validate, "),
        ("tracking: {mood: bright}", "my.yaml: unknown setting tracking.mood; did you mean tracking.mode?"),
    ],
)
def test_refused_files(run, tmp_path, content, message):
    (tmp_path / "my.yaml").write_text(content)
    status, _, errors = run(["fit", "--config", "my.yaml"])
    assert (status, errors.count("\n")) == (2, 1)
    assert message in errors
