"""Configurations, paths and variables made to hang, to blow up or to be misread: one line, status 2, nothing made."""

import os

import pytest

import recipe_processes
from fault_tries import selected
from recipe_calls import call

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
YAML = {
    "an alias bomb of 600 bytes": (BOMB, "more than 100000 values, those behind aliases included"),
    "a merge bomb": (
        "m0: &m0 {a: 1, b: 2}\n"
        + "".join(f"m{i}: &m{i} {{<<: [{','.join([f'*m{i - 1}'] * 9)}]}}\n" for i in range(1, 9)),
        "more than 100000 values",
    ),
    "50,000 brackets": ("[" * 50_000, "nested more than 100 levels deep"),
    "block maps of 1,000 levels": ("".join(" " * i + "a:\n" for i in range(1000)), "nested more than 100 levels"),
    "deep by aliases": (
        "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} {'[' * 50}*a{i - 1}{']' * 50}\n" for i in range(1, 5)),
        "nested more than 100 levels",
    ),
    "an alias of itself": ("data: &d {source: *d}\n", "alias *d contains itself"),
    "700,000 features": (f"data: {{features: [{'a,' * 700_000}]}}", "more than 100000 values"),
    "200,001 widths": (
        f"model: {{model: {{class_path: mlp, init_args: {{hidden: [{'4,' * 200_001}]}}}}}}",
        "more than 100000 values",
    ),
    "5 MB": ("# " + "x" * 5_000_000, "the limit is 4194304"),
    "a number of 5,000 digits": ("seed_everything: " + "1" * 5000, "is not valid YAML"),
    "a Python tag": ("model: !!python/object/apply:os.system [ls]", "is not valid YAML"),
}


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    """Run a fit that must be refused in one line, leaving nothing; returns the line."""
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def line(*arguments):
        status, printed, errors = call(capsys, list(arguments))
        assert (status, printed, errors.count("\n")) == (2, "", 1)
        assert len(errors) < 2100
        assert not (tmp_path / "runs").exists()
        return errors

    return line


@pytest.mark.fault("hostile YAML as a configuration file")
@pytest.mark.parametrize("name", YAML)
@pytest.mark.parametrize("form", selected([["--config", "h.yaml"], ["-c", "h.yaml", "fit"], ["--data", "h.yaml"]], 1))
def test_files(refused, tmp_path, name, form):
    content, message = YAML[name]
    (tmp_path / "h.yaml").write_text(content)
    line = refused(*form) if form[-1] == "fit" else refused("fit", *form)
    if form[0] != "--data":
        assert message in line


@pytest.mark.fault("hostile YAML as an argument or a variable")
@pytest.mark.parametrize("content", ["[" * 50_000, "{" * 5000, BOMB, "{source: &a [*a]}", "!!python/name:os.system"])
@pytest.mark.parametrize("setting", selected(["data", "model.optimizer", "trainer.callbacks", "data.features"], 2))
def test_values(refused, monkeypatch, content, setting):
    refused("fit", f"--{setting}", content)
    monkeypatch.setenv(f"TORCHPLUG_FIT__{setting.replace('.', '__').upper()}", content)
    refused("fit")


@pytest.mark.fault("50,000 brackets, in a process of their own")
def test_a_crash_of_the_parser(tmp_path):
    (tmp_path / "deep.yaml").write_text("[" * 50_000)
    status, _, errors = recipe_processes.run(tmp_path, "linear_regression", "fit", "--config", "deep.yaml")
    assert (status, errors.count("\n")) == (2, 1)


@pytest.mark.fault("a configuration that is no file")
@pytest.mark.parametrize("kind", ["fifo", "directory", "/dev/zero", "/proc/self/mem", "latin-1"])
@pytest.mark.parametrize("way", ["fit --config {}", "-c {} fit", "TORCHPLUG_CONFIG", "TORCHPLUG_FIT__CONFIG"])
def test_no_regular_file(refused, monkeypatch, tmp_path, kind, way):
    path = kind if kind.startswith("/") else "it.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        (tmp_path / path).mkdir()
    elif kind == "latin-1":
        (tmp_path / path).write_bytes("data: {source: größe}".encode("latin-1"))
    if way.startswith("TORCHPLUG"):
        monkeypatch.setenv(way, path)
        line = refused("fit")
    else:
        line = refused(*way.format(path).split())
    assert path in line


@pytest.mark.fault("a variable naming a file of another kind")
def test_a_variable_that_names_no_configuration(refused, monkeypatch):
    monkeypatch.setenv("TORCHPLUG_CONFIG", "/etc/passwd")
    assert "/etc/passwd" in refused("fit")


LONG = "a" * 5000
PATHS = [
    f"fit --data.source {LONG}",
    f"fit --data.source {'a' * 300}.csv",
    f"fit --data.validation {LONG}",
    f"fit --data.test {LONG}",
    f"fit --ckpt_path {LONG}",
    f"predict --ckpt_path {LONG}",
    f"fit --config {LONG}",
    f"fit --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.dirpath {LONG}",
]


@pytest.mark.fault("a path that no file system holds")
@pytest.mark.parametrize("line", PATHS, ids=range(len(PATHS)))
def test_paths(refused, line):
    assert "too long" in refused(*line.split()).lower() or "does not exist" in refused(*line.split())


@pytest.mark.fault("a path with a null character")
@pytest.mark.parametrize("setting", ["data: {source: 'VALUE'}", "data: {validation: 'VALUE'}", "ckpt_path: 'VALUE'"])
def test_null_characters(refused, tmp_path, setting):
    (tmp_path / "null.yaml").write_text(setting.replace("'VALUE'", '"a\\0b.csv"'))
    assert "a\\x00b.csv" in refused("fit", "--config", "null.yaml")


HOSTILE = "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202eevil\x7f"


@pytest.mark.fault("control characters in outside text")
@pytest.mark.parametrize(
    "line",
    [
        ["fit", "--data.source", HOSTILE],
        ["fit", "--data.target", HOSTILE],
        ["fit", "--model.optimizer", HOSTILE],
        ["fit", f"--{HOSTILE}", "3"],
        [HOSTILE],
        ["fit", "--ckpt_path", HOSTILE],
        ["fit", "--config", HOSTILE],
        ["fit", "--trainer.callbacks+=" + HOSTILE],
        ["fit", "--data.source", "named.csv", "--data.target", "y"],
        ["fit", "--data", f"{{{HOSTILE[-6:]}: 3}}"],
    ],
    ids=range(10),
)
def test_control_characters_in_errors(refused, tmp_path, line):
    (tmp_path / "named.csv").write_text(f"{HOSTILE},b\n1,2\n3,4\n")
    printed = refused(*line)
    assert not any(character in printed for character in "\x1b\x07\x9b\u202e\x7f")


@pytest.mark.fault("control characters in outside text")
def test_control_characters_in_a_run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    rows = "".join(f"5,{i},{i * 2 + i % 3}\n" for i in range(40))
    (tmp_path / "named.csv").write_text(f"{HOSTILE},b,y\n{rows}")
    arguments = ["fit", "--data.source", "named.csv", "--data.target", "y", "--trainer.max_epochs", "1"]
    status, printed, errors = call(capsys, arguments)
    assert status == 0
    assert "note: constant in the training split" in printed
    assert not any(character in printed + errors for character in "\x1b\x07\x9b\u202e\x7f")
