"""The Python examples of the documentation do what they say."""

import re
from pathlib import Path

import polars as pl
import pytest
import torch

from torchplug import ComponentModule

ROOT = Path(__file__).parents[2]
QUIET = pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")


def example(name, mark):
    """The one Python example of a page that contains `mark`."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [code for code in found if mark in code]
    return code


def execute(code):
    names = {"__name__": "example"}
    exec(compile(code, "example", "exec"), names)
    return names


@QUIET
def test_fitting_a_curve_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = execute(example("docs/fit_your_own_curve.md", "Saturation"))
    assert names["module"].outcome.name == "converged"
    b1, b2 = (float(p.detach()) for p in names["module"].network.parameters())
    # the sine is small and averages out
    assert b1 == pytest.approx(240, rel=0.01)
    assert b2 == pytest.approx(0.00055, rel=0.01)
    assert "converged" in capsys.readouterr().out


@QUIET
def test_the_python_journey_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    size = torch.linspace(40, 200, 60, dtype=torch.float64)
    houses = pl.DataFrame({"size": size.numpy(), "price": (2000 * size + 5000 * (size / 9).sin()).numpy()})
    houses.write_csv("houses.csv")
    houses.drop("price").write_csv("new.csv")
    names = execute(example("README.md", "torchplug.fit("))
    assert names["run"].metrics["val/rmse"].drop_nulls().len() == 50
    assert names["run"].outcome["epochs"] == 50
    predicted = names["model"].predict(houses.drop("price"))["price"]
    assert (predicted - houses["price"]).abs().mean() < 0.1 * houses["price"].std()


def test_the_loss_of_the_readme():
    loss = execute(example("README.md", "class Asymmetric"))["Asymmetric"](3.0)
    scores, target = torch.tensor([[1.0], [5.0]]), torch.tensor([[3.0], [3.0]])
    assert loss(scores, target).tolist() == [12.0, 4.0]


@QUIET
def test_ensembles(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = execute(example("docs/ensembles.md", "fit_ensemble"))
    assert "ensemble of 8: val/rmse" in capsys.readouterr().out
    assert names["table"].columns == ["target", "target_spread"]


@QUIET
def test_many_models_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = execute(example("docs/many_models.md", "import numpy"))
    assert len(names["results"]) == 30
    assert names["losses"].mean(axis=1).min() < 0.1
    module = ComponentModule.load_from_checkpoint("model.ckpt", weights_only=True)
    assert torch.equal(module.network.map.weight, names["results"][0].module.network.map.weight)
    assert "lr" in capsys.readouterr().out
    exec(compile(example("docs/many_models.md", "run.unstack"), "example", "exec"), names)
    assert names["curves"].height == 6 * 20
    loaded = ComponentModule.load_from_checkpoint("model.ckpt", weights_only=True)
    assert torch.equal(loaded.network.map.weight, names["module"].network.map.weight)
