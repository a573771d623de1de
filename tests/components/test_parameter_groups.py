"""Learning-rate factors and weight decay by patterns of parameter names."""

import copy
import shutil

import lightning
import numpy as np
import polars
import pytest
import torch

from compared_fits import Fit, differences, made
from torchplug import ComponentModule, TabularData, use
from torchplug.components.parameter_groups import GroupSettings, matches
from torchplug.errors import ConfigurationError

KEYS = ("lr", "weight_decay")
MLP = use("mlp", hidden=[5], activation="tanh")
GROUPS = {"bias": {"lr": 0.1}, "layers.0.*": {"weight_decay": 0.5}}


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("bias", "bias", True),
        ("layers.0.bias", "bias", True),
        ("layers.0.bias", "0.bias", True),
        ("layers.0.bias", "layers.0.*", True),
        ("layers.10.bias", "0.bias", False),
        ("text.embedding.weight", "embedding.*", True),
        ("embeddings.weight", "embedding.*", False),
        ("layers.0.bias", "layers", False),
        ("layers.0.bias", "*", True),
        ("Bias", "bias", False),
    ],
)
def test_matching(name, pattern, expected):
    assert matches(name, pattern) is expected


def test_the_last_pattern_that_sets_a_value_counts():
    settings = GroupSettings({"*": {"lr": 2.0, "weight_decay": 0.1}, "bias": {"lr": 0.5}, "1.*": {"lr": 3.0}})
    names = ["0.weight", "0.bias", "1.weight", "1.bias"]
    groups = settings.divided([{"params": [(name, name) for name in names]}])
    found = {m[0]: (g["name"], g["lr_factor"], g["weight_decay"]) for g in groups for m in g["params"]}
    assert found == {
        "0.weight": ("*", 2.0, 0.1),
        "0.bias": ("* + bias", 0.5, 0.1),
        "1.weight": ("* + 1.*", 3.0, 0.1),
        "1.bias": ("* + 1.*", 3.0, 0.1),
    }


def test_groups_of_one_name_are_numbered():
    groups = GroupSettings({"a": {"lr": 0.5}}).divided([{"params": [("a", 0), ("b", 0)]}, {"params": [("c", 0)]}])
    assert [group["name"] for group in groups] == ["a", "rest", "rest 2"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bias": {"momentum": 0.1}}, "groups: 'bias' has the setting 'momentum': known are lr, weight_decay"),
        ({"bias": {}}, "groups: 'bias' needs settings such as {lr: 0.1}, got {}"),
        ({"bias": 0.1}, "groups: 'bias' needs settings such as {lr: 0.1}, got 0.1"),
        ({"bias": {"lr": "high"}}, "groups: lr of 'bias' must be a number, got 'high'"),
        ({"bias": {"lr": True}}, "groups: lr of 'bias' must be a number, got True"),
        ({"bias": {"lr": -1}}, "groups: lr of 'bias' must be at least 0 and finite, got -1"),
        ({"bias": {"weight_decay": float("nan")}}, "groups: weight_decay of 'bias' must be at least 0 and finite"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigurationError) as refused:
        ComponentModule(MLP, groups=settings)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("components", "settings", "message"),
    [
        ({"optimizer": "sgd"}, {"bias": {"weight_decay": 0.1}}, "groups: sgd has no weight decay: use one that has"),
        ({"optimizer": "newton"}, {"bias": {"lr": 0.1}}, "groups: newton moves all parameters as one vector"),
    ],
)
def test_what_the_optimizer_cannot_do_is_refused(components, settings, message):
    with pytest.raises(ConfigurationError) as refused:
        ComponentModule(use("linear"), groups=settings, **components)
    assert message in str(refused.value)


def test_patterns_that_match_nothing_are_refused_with_the_names(tmp_path):
    fit = Fit(tmp_path, module=ComponentModule(MLP, groups={"bais": {"lr": 0.1}, "weight": {"lr": 2.0}}))
    with pytest.raises(ConfigurationError) as refused:
        fit()
    names = [name for name, _ in fit.module.network.named_parameters()]
    assert str(refused.value) == f"groups: 'bais' matches no parameter; the parameters are {', '.join(names)}"


class Declaring(torch.nn.Module):
    """A linear map that declares settings, of which one pattern matches nothing."""

    group_settings = {"weight": {"lr": 2.0, "weight_decay": 0.5}, "slope": {"lr": 3.0}}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(3, 1)

    def forward(self, features):
        return self.map(features)


@pytest.mark.parametrize(
    ("optimizer", "groups", "expected"),
    [
        (use("adamw", lr=0.1, weight_decay=0.2), None, {"map.weight": (0.2, 0.5), "map.bias": (0.1, 0.0)}),
        (use("adamw", lr=0.1), {"weight": {"lr": 4.0}}, {"map.weight": (0.4, 0.5), "map.bias": (0.1, 0.0)}),
        (use("adamw", lr=0.1), {"*": {"lr": 3.0}}, {"map.weight": (0.3, 0.5), "map.bias": (0.3, 0.0)}),
        (use("adamw", lr=0.1, weight_decay=0.0), None, {"map.weight": (0.2, 0.0), "map.bias": (0.1, 0.0)}),
        (use("sgd", lr=0.1), None, {"map.weight": (0.2, 0.0), "map.bias": (0.1, 0.0)}),
        (use("newton"), None, {"map.weight": (None, None), "map.bias": (None, None)}),
    ],
)
def test_settings_that_a_network_declares_come_before_the_users(optimizer, groups, expected):
    module = ComponentModule(Declaring(), optimizer=optimizer, groups=groups)
    module.configure(prepared(module))
    names = {id(p): name for name, p in module.network.named_parameters()}
    found = {
        names[id(p)]: tuple(None if group.get(key) is None else pytest.approx(group[key]) for key in KEYS)
        for group in module.build_optimizer().param_groups
        for p in group["params"]
    }
    assert found == expected


def test_factors_that_a_network_declares_need_a_scheduler_that_keeps_them(distributions):
    distributions.module("absolute_rates", SCHEDULER)
    distributions.offer("rates", ("schedulers", "absolute", "absolute_rates:Absolute"))
    module = ComponentModule(Declaring(), scheduler="absolute")
    with pytest.raises(ConfigurationError, match="the scheduler absolute sets one learning rate for all parameters"):
        module.configure(prepared(module))


def prepared(module):
    data = TabularData(frame(), "y")
    data.prepare(module.data_request())
    return data


SCHEDULER = """
import torch

class Absolute(torch.optim.lr_scheduler.LRScheduler):
    def get_lr(self):
        return [0.3 / (1 + self.last_epoch) for _ in self.optimizer.param_groups]
"""


def test_a_scheduler_that_sets_one_rate_for_all_is_refused(distributions):
    distributions.module("absolute_rates", SCHEDULER)
    distributions.offer("rates", ("schedulers", "absolute", "absolute_rates:Absolute"))
    ComponentModule(MLP, scheduler="absolute")
    ComponentModule(MLP, optimizer="adamw", scheduler="absolute", groups={"bias": {"weight_decay": 0.1}})
    with pytest.raises(ConfigurationError, match="the scheduler absolute sets one learning rate for all parameters"):
        ComponentModule(MLP, scheduler="absolute", groups={"bias": {"lr": 0.1}})


def frame():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(60, 3))
    y = X @ [1.0, -0.5, 0.3] + 0.7 + 0.1 * rng.normal(size=60)
    return polars.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": y})


def plain_data():
    return TabularData(frame(), "y", batch_size=9, shuffle=False, scale="none", standardize_target=False)


class Start(lightning.Callback):
    def on_fit_start(self, trainer, module):
        self.network = copy.deepcopy(module.network)


def looped(network, rows, build, schedule=lambda optimizer: None, epochs=3):
    """What torch alone makes of it: a loop over batches with an optimizer's groups."""
    X, y = torch.tensor(rows.select("a", "b", "c").to_numpy()), torch.tensor(rows.select("y").to_numpy())
    optimizer = build(dict(network.named_parameters()))
    scheduler = schedule(optimizer)
    for _ in range(epochs):
        for first in range(0, len(X), 9):
            optimizer.zero_grad()
            (network(X[first : first + 9]) - y[first : first + 9]).square().sum(1).mean().backward()
            optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return dict(network.named_parameters())


def adamw(p):
    first, last = [name for name in p if name.endswith("weight")]
    biases = [name for name in p if name.endswith("bias")]
    return torch.optim.AdamW(
        [
            {"params": [p[first]], "weight_decay": 0.5},
            {"params": [p[last]]},
            {"params": [p[biases[0]]], "lr": 0.002, "weight_decay": 0.5},
            {"params": [p[biases[1]]], "lr": 0.002, "weight_decay": 0.0},
        ],
        lr=0.02,
        weight_decay=0.01,
    )


def sgd(p):
    biases = [p[name] for name in p if name.endswith("bias")]
    weights = [p[name] for name in p if name.endswith("weight")]
    return torch.optim.SGD([{"params": weights}, {"params": biases, "lr": 0.005}], lr=0.05, momentum=0.9)


HALVED = {"scheduler": use("exponential", decay=0.5)}
LISTED = {"scheduler": use("manual", table={1: 0.01})}
CASES = {
    "adamw": (use("adamw", lr=0.02, weight_decay=0.01), None, adamw, {}, lambda optimizer: None),
    "momentum": (use("momentum", lr=0.05, beta=0.9), {"bias": {"lr": 0.1}}, sgd, {}, lambda optimizer: None),
    "scheduled": (
        use("adamw", lr=0.02, weight_decay=0.01),
        None,
        adamw,
        HALVED,
        lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
    ),
    "listed": (
        use("adamw", lr=0.02, weight_decay=0.01),
        None,
        adamw,
        LISTED,
        lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5 if epoch else 1.0),
    ),
}


def first_layer(network):
    return next(name for name, _ in network.named_parameters()).rpartition(".")[0]


COMPILED = pytest.param(
    "momentum",
    "auto",
    "compiled",
    marks=[
        pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
        pytest.mark.filterwarnings("ignore"),  # the compiler's own
    ],
)
EXECUTIONS = [(1, "autograd"), (1, "auto"), ("auto", "autograd"), ("auto", "auto")]


@pytest.mark.parametrize(
    ("case", "steps", "engine"),
    [*((case, *execution) for case in CASES for execution in EXECUTIONS), COMPILED],
)
def test_a_fit_is_a_torch_loop_with_groups(tmp_path, case, steps, engine):
    optimizer, groups, build, options, schedule = CASES[case]
    model = ComponentModule(MLP, "mse", optimizer).resolved.build_network(3, 1)
    groups = groups or {"bias": {"lr": 0.1}, f"{first_layer(model)}.*": {"weight_decay": 0.5}}
    start = Start()
    torch.manual_seed(3)
    module = ComponentModule(MLP, "mse", optimizer, groups=groups, steps_per_execution=steps, engine=engine, **options)
    settings = {"precision": "64-true", "max_epochs": 3, "callbacks": lambda folder: [start]}
    fit = Fit(tmp_path, steps, engine, module=module, data=plain_data, **settings)()
    expected = looped(start.network, fit.data.frame_of("train"), build, schedule)
    for name, parameter in module.network.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-9, atol=1e-12)
    if steps == "auto":
        assert fit.calls < fit.run.global_step


def test_a_resumed_fit_goes_on_bit_for_bit(tmp_path):
    def module():
        return ComponentModule(MLP, "mse", use("adamw", lr=0.02), groups={"bias": {"lr": 0.1, "weight_decay": 0.2}})

    whole = Fit(made(tmp_path / "whole"), module=module(), max_epochs=4)()
    half = Fit(made(tmp_path / "half"), module=module(), max_epochs=2)()
    half.run.save_checkpoint(tmp_path / "half.ckpt")
    rest = Fit(made(tmp_path / "rest"), module=module(), max_epochs=4, resume=tmp_path / "half.ckpt")()
    first, second = (fit.everything()["checkpoint"] for fit in (whole, rest))
    assert not differences(first["state_dict"], second["state_dict"])
    assert not differences(first["optimizer_states"], second["optimizer_states"])
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["groups"] == {"bias": {"lr": 0.1, "weight_decay": 0.2}}
    assert (
        ComponentModule.load_from_checkpoint(tmp_path / "half.ckpt").resolved.groups.plain()
        == (saved["hyper_parameters"]["groups"])
    )


def test_rate_momentum_and_weight_decay_are_logged_by_group(tmp_path):
    module = ComponentModule(MLP, "mse", use("adamw", lr=0.02, weight_decay=0.01), groups={"bias": {"lr": 0.1}})
    fit = Fit(tmp_path, module=module)()
    row = next(row for _, row in fit.recorder.rows if "train/loss" in row)
    assert {name: value for name, value in row.items() if name.startswith("lr-")} == pytest.approx(
        {
            "lr-AdamW/rest": 0.02,
            "lr-AdamW/rest-weight_decay": 0.01,
            "lr-AdamW/bias": 0.002,
            "lr-AdamW/bias-weight_decay": 0.0,
        }
    )
