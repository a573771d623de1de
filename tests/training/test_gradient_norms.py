"""Gradient norms of layers, against plain torch."""

import numpy as np
import polars
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from compared_fits import Recorder
from small_fits import regression, trainer
from torchplug import ComponentModule, TabularData, fit, fit_many, use
from torchplug.errors import ConfigurationError

LR, COEFFICIENT, BATCH, EPOCHS = 0.05, 0.1, 3, 3
PREFIX = "train/gradient_norm/"


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def table(rows=10):
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(rows, 2)), rng.uniform(0.2, 3.0, rows)
    return polars.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": X[:, 0] - X[:, 1] ** 2, "w": w})


def logged(tmp_path, engine, steps, every, **settings):
    """Rows with norms of layers, by step."""
    as_it_is = {"shuffle": False, "scale": "none", "standardize_target": False}
    data = TabularData(table(), target="y", weights="w", split=[1.0], batch_size=BATCH, **as_it_is)
    module = ComponentModule(
        network(),
        "mse",
        use("sgd", lr=LR),
        [use("l2", coefficient=COEFFICIENT)],
        engine=engine,
        steps_per_execution=steps,
        gradient_norms=True,
    )
    recorder = Recorder()
    options = {"max_epochs": EPOCHS, "precision": "64-true", "log_every_n_steps": every, "logger": recorder}
    trainer(tmp_path, **options, **settings).fit(module, data)
    return {step: row for step, row in recorder.rows if any(name.startswith(PREFIX) for name in row)}


def reference(window=1, clip=None):
    """Norms of layers at each step by autograd on plain tensors: an l2 penalty λ·Σ weight², weights of mean 1."""
    rows = table().to_torch(dtype=polars.Float64)
    X, y, w = rows[:, :2], rows[:, 2:3], rows[:, 3:] / rows[:, 3].mean()
    model = network()
    norms = []
    for start in [s for _ in range(EPOCHS) for s in range(0, len(X), BATCH * window)]:
        part = slice(start, min(start + BATCH * window, len(X)))
        loss = (w[part] * (model(X[part]) - y[part]) ** 2).mean()
        model.zero_grad()
        (loss + COEFFICIENT * sum(layer.weight.square().sum() for layer in (model[0], model[2]))).backward()
        squares = {k: sum(float(p.grad.square().sum()) for p in model[k].parameters()) for k in (0, 2)}
        norms.append({f"{PREFIX}{k}": square**0.5 for k, square in squares.items()})
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        with torch.no_grad():
            for p in model.parameters():
                p -= LR * p.grad
    return norms


@pytest.mark.parametrize(
    ("engine", "steps", "every", "settings"),
    [
        ("analytic", 1, 1, {}),
        ("analytic", "auto", 1, {}),
        ("analytic", "auto", 5, {}),
        ("autograd", 1, 1, {}),
        ("autograd", "auto", 2, {}),
        ("analytic", "auto", 1, {"accumulate_grad_batches": 2}),
        ("autograd", "auto", 1, {"accumulate_grad_batches": 2}),
        ("analytic", "auto", 2, {"gradient_clip_val": 0.01}),
        ("analytic", 1, 2, {"gradient_clip_val": 0.01}),
    ],
    ids=str,
)
def test_norms_are_those_of_plain_autograd(tmp_path, engine, steps, every, settings):
    expected = reference(settings.get("accumulate_grad_batches", 1), settings.get("gradient_clip_val"))
    found = logged(tmp_path, engine, steps, every, **settings)
    assert [row for row, _ in sorted(found.items())] == list(range(every - 1, len(expected), every))
    for step, row in found.items():
        of_layers = {name: value for name, value in row.items() if name.startswith(PREFIX)}
        assert of_layers == pytest.approx(expected[step], rel=1e-9)
        assert row["train/gradient_norm"] ** 2 == pytest.approx(sum(v**2 for v in of_layers.values()), rel=1e-9)


class Freezing(Callback):
    """The first layer does not train in the second epoch."""

    def on_train_epoch_start(self, run, module):
        module.network[0].requires_grad_(run.current_epoch != 1)


def test_a_frozen_layer_has_no_norm(tmp_path):
    found = logged(tmp_path, "auto", "auto", 1, callbacks=[Freezing()])
    has = [f"{PREFIX}0" in row for _, row in sorted(found.items())]
    assert has == [True] * 4 + [False] * 4 + [True] * 4


class Detached(nn.Module):
    """Its first layer is not used."""

    def __init__(self):
        super().__init__()
        self.unused, self.last = nn.Linear(3, 2), nn.Linear(3, 1)

    def forward(self, features):
        return self.last(features)


def test_a_layer_that_no_gradient_reaches_has_norm_zero(tmp_path):
    recorder = Recorder()
    module = ComponentModule(Detached(), "mse", gradient_norms=True)
    trainer(tmp_path, logger=recorder, max_epochs=1).fit(module, regression())
    rows = [row for _, row in recorder.rows if f"{PREFIX}last" in row]
    assert rows
    assert all(row[f"{PREFIX}unused"] == 0 < row[f"{PREFIX}last"] for row in rows)


def test_a_run_directory_has_them_where_asked_for(tmp_path):
    config = {"model": use("mlp", hidden=[4]), "optimizer": "adam"}
    options = {"tracking": {"mode": "disabled"}, "trainer": {"max_epochs": 2, "log_every_n_steps": 1}, "root": tmp_path}
    asked = fit({**config, "gradient_norms": True}, regression(), **options).run
    assert asked.config["model"]["gradient_norms"] is True
    names = [name for name in asked.metrics.columns if name.startswith(PREFIX)]
    assert names == [f"{PREFIX}layers.0", f"{PREFIX}layers.2"]
    assert asked.metrics[names[0]].drop_nulls().len() == asked.metrics["train/gradient_norm"].drop_nulls().len() > 1
    assert not any(name.startswith(PREFIX) for name in fit(config, regression(), **options).run.metrics.columns)


def test_models_with_norms_train_one_by_one(tmp_path):
    config = {"model": use("linear"), "gradient_norms": True}
    (found,) = fit_many([config], regression(), trainer={"max_epochs": 1}, tracking={"mode": "disabled"}, root=tmp_path)
    assert any("gradient_norms is chosen" in note for note in found.run.notes)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_other_values_are_refused(value):
    with pytest.raises(ConfigurationError, match="gradient_norms is true or false"):
        ComponentModule("linear", gradient_norms=value)


def test_full_batch_optimizers_refuse_them():
    with pytest.raises(ConfigurationError, match=r"leave out .*gradient_norms"):
        ComponentModule("linear", optimizer="newton", gradient_norms=True)
