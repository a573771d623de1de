"""The Python examples of the documentation do what they say."""

import re
from pathlib import Path

import pytest
import torch

from torchplug import ComponentModule

DOCS = Path(__file__).parents[2] / "docs"


def examples(name):
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
def test_fitting_a_curve_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = examples("fit_your_own_curve.md")
    names = {}
    exec(compile(code, "fit_your_own_curve.md", "exec"), names)
    assert names["module"].outcome.name == "converged"
    b1, b2 = (float(p.detach()) for p in names["module"].network.parameters())
    # the sine is small and averages out
    assert b1 == pytest.approx(240, rel=0.01)
    assert b2 == pytest.approx(0.00055, rel=0.01)
    assert "converged" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
def test_many_models_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = examples("many_models.md")
    names = {}
    exec(compile(code, "many_models.md", "exec"), names)
    assert len(names["results"]) == 30
    assert names["losses"].mean(axis=1).min() < 0.1
    module = ComponentModule.load_from_checkpoint("model.ckpt", weights_only=True)
    assert torch.equal(module.network.map.weight, names["results"][0].module.network.map.weight)
    assert "lr" in capsys.readouterr().out
