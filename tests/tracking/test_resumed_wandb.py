"""A run that is tracked by Weights & Biases, interrupted and resumed: offline, by the real client."""

import pytest

from recipe_calls import call
from recipe_processes import rows, run_directories

OFFLINE = ["--tracking.mode", "offline", "--trainer.log_every_n_steps", "4", "--data.batch_size", "64"]


@pytest.fixture
def tracked(wandb_home, monkeypatch, tmp_path, capsys):
    """Run the linear recipe, tracked offline; returns its run directory."""
    monkeypatch.chdir(tmp_path)

    def ran(*arguments):
        status, printed, errors = call(capsys, ["fit", *arguments])
        assert (status, errors) == (0, "")
        assert "wandb: offline; send this run with: wandb sync" in printed
        return run_directories(tmp_path, "linear_regression")[-1]

    return ran


def test_the_resumed_run_goes_on_by_its_id_and_holds_every_row_once(tracked, recorded):
    directory = tracked(*OFFLINE, "--trainer.max_epochs", "2")
    first = recorded(directory)
    assert first.rows == rows(directory)
    assert tracked("--ckpt_path", "last", "--trainer.max_epochs", "4") == directory
    again = recorded(directory)
    assert again.rows == rows(directory)
    assert len(again.rows) > len(first.rows)
    assert again.file.name == first.file.name, "the file is named after the run's id"
    assert len(list((directory / "wandb" / "superseded").iterdir())) == 1


def test_the_id_that_was_given_comes_back(tracked, recorded):
    directory = tracked(*OFFLINE, "--tracking.id", "keepme", "--trainer.max_epochs", "2")
    tracked("--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert recorded(directory).file.name == "run-keepme.wandb"


def test_an_opened_test_split_is_told_to_the_run(tracked, recorded, capsys):
    directory = tracked(*OFFLINE, "--trainer.max_epochs", "2")
    first = recorded(directory)
    of_fit = first.run()["summary"]
    assert "test_openings" not in of_fit
    for openings in (1, 2):
        assert call(capsys, ["test"])[0] == 0
        again = recorded(directory)
        assert again.file.name == first.file.name, "the file is named after the run's id"
        assert again.rows == first.rows
        summary = again.run()["summary"]
        assert summary["test_openings"] == openings
        (row,) = rows(directory)[-1:]
        assert summary["test/rmse"] == row["test/rmse"]
        assert summary["val/rmse"] == of_fit["val/rmse"]


def test_an_opened_test_split_is_told_to_nobody_where_that_is_not_wanted(tracked, recorded, capsys):
    directory = tracked(*OFFLINE, "--trainer.max_epochs", "2")
    assert call(capsys, ["test", "--tracking.mode", "disabled"])[0] == 0
    assert "test_openings" not in recorded(directory).run()["summary"]
