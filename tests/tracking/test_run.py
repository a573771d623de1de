import csv
import json
import os

import polars
import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only

from torchplug.errors import ConfigurationError, WriteError
from torchplug.tracking import run as runs_module
from torchplug.tracking.run import Run


def test_directories_lie_under_their_recipe_and_sort_by_time(tmp_path):
    runs = [Run.create("mlp", tmp_path / "runs") for _ in range(20)]
    names = [run.path.name[:19] for run in runs]  # the random end settles ties within a millisecond
    assert len({run.path for run in runs}) == 20
    assert names == sorted(names)
    assert all(run.path.parent == tmp_path / "runs" / "mlp" and run.path.is_dir() for run in runs)
    assert runs[0].recipe == "mlp"


def test_path_is_absolute_so_that_a_change_of_folder_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Run.create("mlp").path.parent == tmp_path / "runs" / "mlp"


def test_a_name_that_is_taken_is_not_shared(tmp_path, monkeypatch):
    ids = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr(runs_module.secrets, "token_hex", lambda n: next(ids))

    class Stopped(runs_module.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2030, 1, 2, 3, 4, 5, 678901, tz)

    monkeypatch.setattr(runs_module, "datetime", Stopped)
    first, second = Run.create("mlp", tmp_path), Run.create("mlp", tmp_path)
    assert first.path.name == "20300102-030405.678-aaaaaa"
    assert second.path.name == "20300102-030405.678-bbbbbb"


@pytest.mark.parametrize("obstacle", ["runs", "runs/mlp"])
def test_a_file_in_the_way_is_one_clear_line(tmp_path, obstacle):
    (tmp_path / obstacle).parent.mkdir(exist_ok=True)
    (tmp_path / obstacle).write_text("")
    with pytest.raises(ConfigurationError, match="Not a directory; make it writable, or start in another") as caught:
        Run.create("mlp", tmp_path / "runs")
    assert "\n" not in str(caught.value)


def test_config_and_provenance_are_written_whole(tmp_path):
    run = Run(tmp_path)
    run.write_config("seed: 1\nname: größe\n")
    run.write_provenance({"seed": 1, "place": "Zürich"})
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "seed: 1\nname: größe\n"
    assert json.loads((tmp_path / "provenance.json").read_text(encoding="utf-8")) == {"seed": 1, "place": "Zürich"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "provenance.json"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.write_config("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"config\.yaml cannot be written \(No space"):
        run.write_config("new")
    assert (tmp_path / "config.yaml").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_coefficients_come_back_bit_for_bit(tmp_path):
    values = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).exp().tolist()
    values += [5e-324, 1.7976931348623157e308, -0.0, 1 / 3]
    rows = [("price", f"x{i}", value) for i, value in enumerate(values)] + [('a, "b"', "(intercept)", 0.1)]
    names = ["output", "feature", "coefficient"]
    Run(tmp_path).write_coefficients(polars.DataFrame(rows, schema=names, orient="row"))
    with (tmp_path / "coefficients.csv").open(newline="", encoding="utf-8") as file:
        header, *read = csv.reader(file)
    assert header == ["output", "feature", "coefficient"]
    assert [(output, feature, float(value).hex()) for output, feature, value in read] == [
        (output, feature, value.hex()) for output, feature, value in rows
    ]


def test_an_outcome_is_plain_json(tmp_path):
    Run(tmp_path).write_outcome({"name": "stalled", "reason": "‖∇F‖ is large", "last_iteration": None})
    written = (tmp_path / "outcome.json").read_text(encoding="utf-8")
    assert json.loads(written) == {"name": "stalled", "reason": "‖∇F‖ is large", "last_iteration": None}
    assert "‖∇F‖" in written


def test_notes_are_lines(tmp_path):
    Run(tmp_path).write_notes(["d is a date", "ünnamed"])
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "d is a date\nünnamed\n"


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    run = Run(tmp_path)
    run.write_config("x")
    run.write_provenance({})
    run.write_outcome({})
    run.write_coefficients(polars.DataFrame())
    assert list(tmp_path.iterdir()) == []
