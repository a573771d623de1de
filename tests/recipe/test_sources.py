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
