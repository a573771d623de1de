"""The ladder in Weights & Biases, by the real client, offline."""

import pytest

from small_fits import classification
from torchplug import ladder, use

CONFIG = {"model": use("mlp", hidden=[16]), "loss": "bce"}


@pytest.mark.parametrize("rate", [1e-2, 1e-7])
def test_a_row_for_each_rung(wandb_home, recorded, tmp_path, rate):
    found = ladder(
        {**CONFIG, "optimizer": use("adam", lr=rate)},
        classification(),
        steps=300,
        trainer={"accelerator": "cpu"},
        tracking={"mode": "offline", "name": "climbed"},
        root=tmp_path / "runs",
    )
    seen = recorded(found.run.path)
    rows = [row for row in seen.rows if "ladder/rows" in row]
    assert [row["ladder/rows"] for row in rows] == [rung.rows for rung in found.rungs]
    assert [row["ladder/passed"] for row in rows] == [int(rung.passed) for rung in found.rungs]
    assert [row["ladder/loss"] for row in rows] == pytest.approx([rung.loss for rung in found.rungs], rel=1e-12)
    assert rows[0]["ladder/accuracy"] == found.rungs[0].score
    assert (len(rows) > 1) == (rate == 1e-2)
    shown = seen.run()
    assert (shown["name"], shown["config"]["ladder/steps"]) == ("climbed", 300)
    assert shown["config"]["model/optimizer/lr"] == rate
