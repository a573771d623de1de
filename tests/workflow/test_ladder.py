"""Planted bugs, each named rightly; and models without bugs, which pass."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import torchplug
from torchplug import TabularData, use
from torchplug.errors import ConfigurationError
from torchplug.workflow.ladder.codes import CODES

STEPS = 400


def climbed(tmp_path, config, data, **others):
    settings = {"trainer": {"accelerator": "cpu"}, "tracking": {"mode": "disabled"}, "root": tmp_path, "steps": STEPS}
    return torchplug.ladder(config, data, **{**settings, **others})


def numbers(n=120, unit=1.0, noise=0.0, **settings):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    y = X[:, 0] - 2 * X[:, 1] + noise * rng.normal(size=n)
    return _data(X * unit, {"y": y}, **settings)


def classes(n=120, unit=1.0, **settings):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    y = np.where(X[:, 0] - X[:, 1] > 0, "b", "a")
    return _data(X * unit, {"y": y}, **settings)


def _data(X, target, **settings):
    frame = pl.DataFrame({**{f"x{j}": X[:, j] for j in range(X.shape[1])}, **target})
    return TabularData(frame, target="y", **{"batch_size": 32, **settings})


def shuffled_targets():
    data = numbers(300).sources["source"]
    order = np.random.default_rng(1).permutation(data.height)
    return TabularData(data.with_columns(y=data["y"][order]), target="y", batch_size=32)


def contradicting_rows():
    frame = classes().sources["source"]
    others = frame.with_columns(y=pl.when(pl.col("y") == "a").then(pl.lit("b")).otherwise(pl.lit("a")))
    return TabularData(pl.concat([frame, others]), target="y", batch_size=32)


def stack(*layers):
    torch.manual_seed(0)
    built = [layer() for layer in layers]
    return nn.Sequential(*built)


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 2), nn.Linear(2, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)).detach())


class Blind(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 1)

    def forward(self, x):
        return self.map(0 * x)


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.last(torch.softmax(self.first(x), dim=0))


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(4, 1)

    def forward(self, x):
        return nn.functional.dropout(self.map(x), 0.5)


class Coarse(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = stack(lambda: nn.Linear(4, 32), nn.ReLU, lambda: nn.Linear(32, 1))

    def forward(self, x):
        return self.map(torch.sign(x))


class Undefined(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 1)

    def forward(self, x):
        return self.map(x) + torch.log(x[:, :1] - 100)


class Bounded(nn.Module):
    """Cosines of the angles between inputs and weights, without a temperature: the loss stays above log(1 + 1/e)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(1, 4))

    def forward(self, x):
        return nn.functional.linear(nn.functional.normalize(x), nn.functional.normalize(self.weight))


def trained_before():
    """A linear map that has been trained, with the rows of the validation split too, and goes on from there."""
    network = nn.Linear(4, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, -2.0, 0.0, 0.0]]))
        network.bias.zero_()
    return network


def dead():
    network = stack(lambda: nn.Linear(4, 16), nn.ReLU, lambda: nn.Linear(16, 1))
    nn.init.constant_(network[0].bias, -100.0)
    return network


def identical():
    network = stack(lambda: nn.Linear(4, 16), nn.Tanh, lambda: nn.Linear(16, 1))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    return network


def frozen():
    network = stack(lambda: nn.Linear(4, 2), nn.Tanh, lambda: nn.Linear(2, 1))
    network[0].requires_grad_(False)
    return network


def mlp(hidden=(64,), **others):
    return use("mlp", hidden=list(hidden), **others)


ADAM = use("adam", lr=1e-2)
BUGS = {
    "gradient cut off": ("TPL007", {"model": Detached}, numbers),
    "frozen layer": ("TPL008", {"model": frozen}, numbers),
    "dead units": ("TPL004", {"model": dead}, numbers),
    "identical units": ("TPL005", {"model": identical}, numbers),
    "blind network": ("TPL006", {"model": Blind}, numbers),
    "rows mixed": ("TPL002", {"model": Mixing}, numbers),
    "random in evaluation": ("TPL003", {"model": Noisy}, numbers),
    "sigmoid before bce": (
        "TPL009",
        {
            "model": lambda: stack(lambda: nn.Linear(4, 16), nn.ReLU, lambda: nn.Linear(16, 1), nn.Sigmoid),
            "loss": "bce",
        },
        classes,
    ),
    "relu at the end": (
        "TPL010",
        {"model": lambda: stack(lambda: nn.Linear(4, 32), nn.Tanh, lambda: nn.Linear(32, 1), nn.ReLU)},
        numbers,
    ),
    "equal rows, different targets": ("TPL011", {"model": mlp, "loss": "bce"}, contradicting_rows),
    "unscaled inputs": (
        "TPL012",
        {"model": lambda: use("mlp", hidden=[64], activation="tanh"), "optimizer": use("sgd", lr=0.1)},
        lambda: numbers(unit=1e4, scale="none"),
    ),
    "rate too high": ("TPL013", {"model": mlp, "optimizer": use("sgd", lr=30.0)}, numbers),
    "rate too low": ("TPL014", {"model": mlp, "optimizer": use("adam", lr=1e-6)}, numbers),
    "too little capacity": ("TPL015", {"model": Coarse}, numbers),
    "logarithm of negative numbers": ("TPL001", {"model": Undefined}, numbers),
    "targets shuffled": ("TPL016", {"model": lambda: mlp((128, 128))}, shuffled_targets),
    "trained before": (
        "TPL017",
        {"model": trained_before},
        lambda: numbers(300, scale="none", standardize_target=False),
    ),
    "penalty too strong": ("TPL018", {"model": mlp, "regularizers": [use("l2", coefficient=10.0)]}, numbers),
    "dropout too strong": ("TPL019", {"model": lambda: mlp(dropout=0.99)}, numbers),
    "cosines without temperature": ("TPL020", {"model": Bounded, "loss": "bce"}, classes),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_named(tmp_path, bug):
    code, config, data = BUGS[bug]
    built = {"optimizer": ADAM, **config, "model": config["model"]()}
    found = climbed(tmp_path, built, data(), steps=1500 if bug == "targets shuffled" else STEPS)
    assert not found.passed
    assert found.cause is not None
    assert (found.cause.code, found.cause.name) == (code, CODES[code]), found.table
    assert found.cause.remedies
    assert json.loads((found.run.path / "ladder.json").read_text())["rungs"][-1]["cause"]["code"] == code


@pytest.mark.parametrize(
    ("config", "data"),
    [
        ({"model": mlp(), "optimizer": ADAM}, numbers),
        ({"model": mlp(dropout=0.1), "loss": "bce", "optimizer": ADAM}, classes),
        (
            {"model": use("linear"), "optimizer": use("nesterov", lr=0.05)},
            lambda: numbers(noise=1.0, batch_size="full"),
        ),
        ({"model": use("linear"), "optimizer": "closed_form"}, lambda: numbers(noise=1.0)),
        ({"model": mlp(), "loss": use("cross_entropy", label_smoothing=0.2), "optimizer": ADAM}, classes),
        ({"model": mlp(batch_norm=True), "optimizer": ADAM}, lambda: numbers(batch_size="full")),
    ],
)
def test_models_without_bugs_pass(tmp_path, config, data):
    found = climbed(tmp_path, config, data())
    assert found.passed, found.table["why"].to_list()
    assert [rung.name for rung in found.rungs if rung.name != "regularized"] == [
        "one row", "a handful", "more", "all", "validation", "shuffled targets",
    ]  # fmt: skip


def test_the_run_directory(tmp_path):
    found = climbed(tmp_path, {"model": mlp(), "optimizer": ADAM}, numbers())
    run = found.run
    assert run.outcome["name"] == "passed"
    assert pl.read_csv(run.path / "rungs.csv")["rows"].to_list() == [1, 8, 64, 72, 72, 72]
    losses = pl.read_csv(run.path / "losses.csv")
    assert losses.filter(pl.col("rung") == "all").height == found.rungs[3].steps
    assert (run.path / "ladder.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_module_is_left_untrained(tmp_path):
    network = stack(lambda: nn.Linear(4, 16), nn.ReLU, lambda: nn.Linear(16, 1))
    before = [parameter.clone() for parameter in network.parameters()]
    climbed(tmp_path, {"model": network, "optimizer": ADAM}, numbers(), steps=20)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize(
    ("others", "reason"), [({"steps": 0}, "steps"), ({"trainer": {"precision": "bf16-mixed"}}, "precision")]
)
def test_what_cannot_be_climbed_is_refused(tmp_path, others, reason):
    with pytest.raises(ConfigurationError, match=reason):
        climbed(tmp_path, {"model": mlp(), "optimizer": ADAM}, numbers(), **others)
    assert not list(tmp_path.iterdir())
