"""The Python examples of the documentation do what they say."""

import re
from pathlib import Path

import pytest

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
