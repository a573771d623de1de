"""`--model.*`: components and their parameters, from every source and in every form."""

import pytest

from torchplug.registry.component import use
from torchplug.settings.model import SLOTS, written


@pytest.fixture
def model_of(command_of):
    """The components that a command line of the linear regression recipe names."""
    return lambda *line: command_of(["fit", *line], "linear_regression").settings.model


# the recipe's optimizer is nesterov with lr=0.05
FORMS = {
    "by name": (["--model.optimizer", "adam", "--model.optimizer.lr", "0.2"], {}),
    "the same as words": (["model.optimizer=adam", "model.optimizer.lr=0.2"], {}),
    "the parameter first": (["--model.optimizer.lr=0.2", "--model.optimizer=adam"], {}),
    "class_path": (["--model.optimizer", "{class_path: adam, init_args: {lr: 0.2}}"], {}),
    "name and parameters": (["--model.optimizer", '{"name": "adam", "parameters": {"lr": 0.2}}'], {}),
    "parameters alone": (["--model.optimizer", "torchplug:adam", "--model.optimizer", "{lr: 2e-1}"], {}),
    "a whole model": (["--model", "{optimizer: {class_path: adam, init_args: {lr: 0.2}}}"], {}),
    "a file": (["--config", "model.yaml"], {}),
    "a file of the model alone": (["--model", "alone.yaml"], {}),
    "a variable": ([], {"TORCHPLUG_FIT__MODEL__OPTIMIZER": "{class_path: adam, init_args: {lr: 0.2}}"}),
    "a variable for the whole": ([], {"TORCHPLUG_FIT__MODEL": "{optimizer: {class_path: adam, init_args: {lr: 0.2}}}"}),
    "a variable, then a flag": (["--model.optimizer.lr", "0.2"], {"TORCHPLUG_FIT__MODEL__OPTIMIZER": "adam"}),
    "a flag before a file": (["--model.optimizer.lr", "0.2", "--config", "other.yaml"], {}),
    "a variable before a file": (
        ["--config", "other.yaml", "--model.optimizer.lr=0.2"],
        {"TORCHPLUG_FIT__MODEL__OPTIMIZER": "adam"},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(model_of, monkeypatch, tmp_path, form):
    (tmp_path / "model.yaml").write_text("model:\n  optimizer: adam\n  optimizer.lr: 0.2\n")
    (tmp_path / "alone.yaml").write_text("optimizer: {class_path: 'torchplug:adam', init_args: {lr: '0.2'}}\n")
    (tmp_path / "other.yaml").write_text("model: {optimizer: {class_path: adam, init_args: {lr: 0.9}}}\n")
    line, variables = FORMS[form]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert model_of(*line)["optimizer"] == use("adam", lr=0.2, betas=(0.9, 0.999), eps=1e-8)


def test_the_same_component_keeps_its_parameters(model_of):
    assert model_of("--model.optimizer", "nesterov")["optimizer"].parameters["lr"] == 0.05
    assert model_of("--model.optimizer", "{class_path: nesterov, init_args: {beta: 0.5}}")["optimizer"] == use(
        "nesterov", lr=0.05, beta=0.5
    )
    assert model_of("--model.optimizer", "adam", "--model.optimizer", "nesterov")["optimizer"].parameters["lr"] == 0.01


def test_a_whole_list_starts_from_the_components_own_defaults(command_of):
    def penalties(*line):
        return command_of(["fit", *line], "logistic_regression").settings.model["regularizers"]

    (recipes,) = penalties()
    (own,) = penalties("--model.regularizers", "[l2]")
    assert recipes.parameters["coefficient"] != own.parameters["coefficient"]
    assert penalties("--model.regularizers+=l1", "--model.regularizers+=[l2]") == [
        recipes,
        *penalties("--model.regularizers", "[l1, l2]"),
    ]


def test_a_list_takes_no_single_component(run):
    status, _, errors = run(["--model.regularizers", "l1"])
    assert status == 2
    assert "expected a list such as '[l1]'" in errors
    assert "--model.regularizers+=l1 adds one" in errors


def test_only_a_slot_that_may_be_empty_takes_null(run, model_of):
    assert model_of("--model.scheduler", "cosine", "--model.scheduler", "null")["scheduler"] is None
    status, _, errors = run(["--model.loss", "null"])
    assert status == 2
    assert "--model.loss: a loss is needed; known are " in errors


def test_a_parameter_that_must_be_given_is_asked_for(run):
    status, _, errors = run(["--model.scheduler", "manual"])
    assert status == 2
    assert "--model.scheduler: manual (scheduler): table must be given" in errors


@pytest.mark.parametrize(
    ("line", "where"),
    [
        (["--model.optimizer.lr", "fast"], "--model.optimizer.lr: expected float, got fast"),
        (["--model.optimizer", "{lr: fast}"], "--model.optimizer.lr: expected float, got fast"),
        (["--config", "my.yaml"], "my.yaml: model.optimizer.lr: expected float, got fast"),
        (["--model.scheduler", "{class_path: warmup, init_args: {after: cosin}}"], "--model.scheduler.after: unknown"),
    ],
)
def test_errors_say_where(run, tmp_path, line, where):
    (tmp_path / "my.yaml").write_text("model: {optimizer: {init_args: {lr: fast}}}")
    status, _, errors = run(line)
    assert status == 2
    assert f"error: {where}" in errors


BIAS = {"bias": {"lr": 0.1}}
GROUPS = [
    (["--model.groups", '{"bias": {lr: 0.1}}'], BIAS),
    (["--model.groups.bias", "{lr: 0.1}"], BIAS),
    (["--model.groups.bias.lr", "0.1"], BIAS),
    (["model.groups.bias.lr=1e-1"], BIAS),
    (["--config", "dotted.yaml"], BIAS),
    (["--model.groups.layers.0.*.weight_decay", "0"], {"layers.0.*": {"weight_decay": 0.0}}),
    (["--model.groups.lr", "{lr: 2}"], {"lr": {"lr": 2.0}}),
    (
        ["--model.groups.bias.lr", "0.1", "--model.groups.bias.weight_decay", "0"],
        {"bias": {"lr": 0.1, "weight_decay": 0}},
    ),
    (["--model.groups.0.bias.lr", "3", "--model.groups.bias.lr", "2"], {"0.bias": {"lr": 3.0}, "bias": {"lr": 2.0}}),
    (
        ["--model.groups.bias.lr", "2", "--model.groups", "{weight: {lr: 1}}"],
        {"weight": {"lr": 1.0}, "bias": {"lr": 2.0}},
    ),
    (["--model.groups.bias.lr", "2", "--model.groups", "null"], {"bias": {"lr": 2.0}}),
    (["--model.groups", "null"], None),
]


@pytest.mark.parametrize(("line", "groups"), GROUPS, ids=[" ".join(line) for line, _ in GROUPS])
def test_groups_by_pattern_in_every_form(model_of, tmp_path, line, groups):
    (tmp_path / "dotted.yaml").write_text("model: {groups.bias.lr: 0.1}")
    found = model_of(*line)["groups"]
    assert found == groups
    assert list(found or ()) == list(groups or ())  # the last pattern that matches counts


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            ["--model.groups.foo", "3"],
            "--model.groups.foo: expected lr and weight_decay by pattern of parameter names, got 3",
        ),
        (
            ["--model.groups.bias.momentum", "0.9"],
            "--model.groups.bias.momentum: expected lr and weight_decay by pattern",
        ),
        (["--model.groups.lr", "0.1"], "--model.groups.lr: expected lr and weight_decay by pattern"),
        (["--model.groups", '{"bias": 0.1}'], "--model.groups: expected lr and weight_decay by pattern"),
        (["--model.groups", "{bias: {lr"], "--model.groups: expected lr and weight_decay by pattern"),
        (["--model.groups.bias", "null"], "--model.groups.bias: expected lr and weight_decay by pattern"),
        (["--model.groups+=", "{}"], "--model.groups: += adds to lists only"),
        (["--model.groups.bias.lr+=0.1"], "--model.groups.bias.lr: += adds to lists only"),
    ],
)
def test_other_forms_of_groups_are_refused_with_those_that_work(run, line, message):
    status, _, errors = run(line)
    assert status == 2
    assert f"error: {message}" in errors
    assert errors.endswith("""write --model.groups '{"bias": {lr: 0.1}}' or --model.groups.bias.lr 0.1\n""")
    assert errors.count("\n") == 1


def test_a_factor_that_is_no_number_is_refused(run):
    status, _, errors = run(["--model.groups.bias.lr", "fast"])
    assert status == 2
    assert errors.endswith("error: --model.groups.bias.lr: expected float, got fast\n")


def test_specs_are_written_as_configurations_have_them():
    assert written("scheduler", [use("warmup", after=use("cosine", min_lr=0.1))]) == [
        {"class_path": "warmup", "init_args": {"after": {"class_path": "cosine", "init_args": {"min_lr": 0.1}}}}
    ]


@pytest.mark.parametrize("slot", SLOTS)
def test_help_of_every_slot(run, slot):
    status, printed, _ = run(["fit", f"--model.{slot}.help"])
    assert status == 0
    name = printed.split()[0]
    status, printed, _ = run(["fit", f"--model.{slot}.help={name}"])
    assert status == 0
    assert printed.startswith(f"{name} (")


def test_a_penalty_that_is_added_to_the_recipes_own_is_noted(run):
    added = ["--model.regularizers+=l2", "--model.regularizers.coefficient", "0.01"]
    fit = ["fit", "--model.optimizer", "newton"]
    status, printed, _ = run([*fit, *added], "logistic_regression")
    assert status == 0
    (note,) = [line for line in printed.splitlines() if line.startswith("note: l2")]
    assert "l2 acts 2 times on map.weight, with coefficients 0.00146628 and 0.01, which add up" in note
    whole = note[note.index("'") + 1 : note.rindex("'")]
    status, printed, _ = run([*fit, "--model.regularizers", whole, "--print_config"], "logistic_regression")
    assert status == 0
    assert printed.count("class_path: l2") == 1
    assert "coefficient: 0.01" in printed


def test_penalties_on_different_parameters_are_not_noted(run):
    first = "{class_path: l2, init_args: {coefficient: 0.1, include: [map.weight]}}"
    second = "{class_path: l2, init_args: {coefficient: 0.2, include: [map.bias]}}"
    line = ["fit", "--model.optimizer", "newton", "--model.regularizers", f"[{first}, {second}]"]
    status, printed, _ = run(line, "logistic_regression")
    assert status == 0
    assert "note: l2" not in printed
