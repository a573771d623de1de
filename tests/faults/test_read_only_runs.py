"""Run directories that cannot be written to: archived, another user's, or on a full disk."""

import pytest

from mounts import fill, read_only, small_disk
from recipe_processes import run_directories


@pytest.fixture
def finished(run, tmp_path):
    """A finished run's directory."""
    assert run(["fit", "--trainer.max_epochs", "2"])[0] == 0
    (directory,) = run_directories(tmp_path, "linear_regression")
    return directory


def _contents(directory):
    """What the files of a run hold; an empty one holds nothing."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.stat().st_size}


def _uses(run, directory, reason, ledger_is_writable=False):
    """Validate, test and predict from the run; nothing in it may change."""
    before = _contents(directory)
    for subcommand in ("validate", "test"):
        status, printed, errors = run([subcommand, "--ckpt_path", str(directory)])
        assert (status, errors) == (0, "")
        assert "rmse" in printed
        notes = [line for line in printed.splitlines() if line.startswith("note: ")]
        assert f"metrics.jsonl cannot be written ({reason})" in notes[-1]
        assert "not recorded" in notes[-1]
        assert any("test_ledger.jsonl cannot be written" in note for note in notes) == (
            subcommand == "test" and not ledger_is_writable
        )
    status, printed, errors = run(["predict", "--ckpt_path", str(directory)])
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert f"predictions.csv cannot be written ({reason})" in errors
    assert "--output" in errors
    status, _, errors = run(["predict", "--ckpt_path", str(directory), "--output", "table.csv"])
    assert (status, errors) == (0, "")
    assert _contents(directory) == before


@pytest.mark.fault("a run directory is read-only")
def test_a_read_only_run_is_evaluated(run, tmp_path, finished):
    with read_only(finished):
        _uses(run, finished, "Read-only file system", ledger_is_writable=True)
        status, _, errors = run(["fit", "--ckpt_path", str(finished), "--trainer.max_epochs", "4"])
        assert (status, errors.count("\n")) == (3, 1)
        assert "cannot be written (Read-only file system); make its folder writable" in errors
    assert (tmp_path / "table.csv").is_file()


@pytest.mark.fault("a run lies on a full disk")
def test_a_run_on_a_full_disk_is_evaluated(run, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", 256) as disk:
        monkeypatch.chdir(disk)
        assert run(["fit", "--trainer.max_epochs", "2"])[0] == 0
        (directory,) = run_directories(disk, "linear_regression")
        metrics = directory / "metrics.jsonl"
        metrics.write_text((metrics.read_text() * 200)[: 4096 * 8 - 1] + "\n")  # no room left in its last page
        fill(disk)
        monkeypatch.chdir(tmp_path)
        _uses(run, directory, "No space left on device")


@pytest.mark.fault("a run's files are in the way of its records")
def test_records_that_are_folders(run, finished):
    (finished / "metrics.jsonl").unlink()
    for name in ("metrics.jsonl", "predictions.csv"):
        (finished / name).mkdir()
    (finished.parents[1] / "test_ledger.jsonl").mkdir()
    _uses(run, finished, "Is a directory")
