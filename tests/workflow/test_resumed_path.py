"""`path` after Ctrl-C or a kill: what is done is kept, and not computed again."""

import os
import signal

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

import torchplug
from many.interrupting import interrupted_after
from torchplug import TabularData, use
from torchplug.errors import CheckpointError, ConfigurationError
from torchplug.workflow.regularization_path.kept import Kept

L1 = [use("l1", proximal=True)]
SOFTMAX = {"model": "linear", "loss": "cross_entropy", "regularizers": L1, "optimizer": "proximal_newton"}
LOGISTIC = {"model": "linear", "loss": "bce", "regularizers": [use("l2")], "optimizer": "newton"}
LASSO = {**SOFTMAX, "loss": "mse"}
NETWORK = {**LOGISTIC, "model": use("mlp", hidden=[2])}
GRID = np.geomspace(1.0, 1e-3, 30)


def binary():
    X, y = load_breast_cancer(return_X_y=True)
    return TabularData((X[:, :6], y), split=[1.0])


CASES = {  # and how many pieces of work there are
    "one by one": (SOFTMAX, lambda: TabularData("iris", split=[1.0]), [0.1, 0.03, 0.01], 12),
    "a network": (NETWORK, binary, [0.1, 0.03], 6),
    "several λ at once": (LOGISTIC, binary, GRID, 5),
    "least squares": (LASSO, lambda: TabularData("diabetes", split=[1.0]), GRID, 4),
}


@pytest.fixture
def path(tmp_path):
    def run(config, data, **settings):
        given = {"folds": 3, "tracking": {"mode": "disabled"}, "root": tmp_path / "runs", **settings}
        return torchplug.path(config, data, **given)

    return run


@pytest.fixture
def after(monkeypatch):
    """Do something after a number of pieces of work, and count them."""

    def watch(number, what):
        pieces, add = [], Kept.add

        def added(self, part, done):
            add(self, part, done)
            pieces.append(part)
            if len(pieces) == number:
                what(self)

        monkeypatch.setattr(Kept, "add", added)
        return pieces

    yield watch
    monkeypatch.undo()


def assert_same(found, whole):
    assert found.table.columns == whole.table.columns
    np.testing.assert_allclose(found.table.to_numpy(), whole.table.to_numpy(), rtol=1e-8)
    if whole.coefficients is not None:
        np.testing.assert_allclose(found.coefficients.to_numpy(), whole.coefficients.to_numpy(), rtol=1e-6, atol=1e-9)
    assert (found.best, found.best_1se) == (whole.best, whole.best_1se)


@pytest.mark.parametrize(
    ("case", "at"), [("one by one", 3), ("a network", 3), ("several λ at once", 1), ("least squares", 2)]
)
def test_ctrl_c_keeps_what_is_done(path, after, tmp_path, case, at):
    config, data, grid, pieces = CASES[case]
    whole = path(config, data(), coefficient=grid, root=tmp_path / "whole")
    done = after(at, lambda kept: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="go on with resume='"):
        path(config, data(), coefficient=grid)
    assert len(done) == at
    (directory,) = (tmp_path / "runs" / "path").iterdir()
    assert not (directory / "path.csv").exists()
    assert not (directory / "outcome.json").exists()
    found = path(config, data(), coefficient=grid, resume="last")
    assert found.run.path == directory
    assert len(done) == pieces or case == "several λ at once"  # whose batches start again
    assert_same(found, whole)
    before = len(done)
    assert_same(path(config, data(), coefficient=grid, resume=directory), found)
    assert len(done) == before  # of a run that had ended nothing is left to do


def test_a_killed_path_goes_on_from_what_was_saved_last(path, after, tmp_path):
    class Killed(BaseException):
        pass

    def kill(kept):
        kept.save()  # as it is now and then
        raise Killed

    config, data, grid, pieces = CASES["one by one"]
    done = after(5, kill)
    with pytest.raises(Killed):
        path(config, data(), coefficient=grid)
    found = path(config, data(), coefficient=grid, resume="last")
    assert len(done) == pieces
    assert_same(found, path(config, data(), coefficient=grid, root=tmp_path / "whole"))


def test_minibatches_go_on(path, tmp_path):
    config = {"model": "linear", "optimizer": use("adam", lr=0.1), "regularizers": [use("l2")]}
    options = {"coefficient": [1.0, 0.1], "folds": 2, "trainer": {"max_epochs": 60, "accelerator": "cpu"}}
    data = TabularData("diabetes", split=[1.0], batch_size=64)
    whole = path(config, data, root=tmp_path / "whole", **options)
    with interrupted_after(40, tmp_path / "runs"), pytest.raises(KeyboardInterrupt, match="go on with resume='"):
        path(config, data, **options)
    found = path(config, data, resume="last", **options)
    assert len(list((tmp_path / "runs" / "path").iterdir())) == 1
    assert_same(found, whole)
    assert pl.read_csv(found.run.path / "path.csv").equals(found.table)
    assert found.run.config["path"]["coefficient"] == [1.0, 0.1]
    assert_same(path(config, data, resume=found.run.path, **options), whole)


def test_other_settings_are_not_gone_on_with(path, tmp_path):
    X, y = load_diabetes(return_X_y=True)
    data = TabularData((X, y))
    found = path(LASSO, data, coefficient=[1.0, 0.1])
    for changed, reason in (
        ({"coefficient": [1.0, 0.2]}, "path/coefficient"),
        ({"folds": 4}, "path/(folds|rows)"),
        ({"seed": 1}, "path/rows"),
        ({"trainer": {"max_epochs": 7}}, "path/steps"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            path(LASSO, data, **{"coefficient": [1.0, 0.1], "resume": found.run.path, **changed})
    with pytest.raises(CheckpointError, match="model/loss torchplug:mse, not"):
        path({**LASSO, "loss": "huber"}, data, coefficient=[1.0, 0.1], resume=found.run.path)
    with pytest.raises(CheckpointError, match="table"):
        path(LASSO, TabularData((X, 2 * y)), coefficient=[1.0, 0.1], resume=found.run.path)


def test_what_cannot_be_resumed(path, tmp_path):
    data = TabularData("diabetes")
    with pytest.raises(CheckpointError, match="can be resumed: leave out resume"):
        path(LASSO, data, resume="last")
    with pytest.raises(CheckpointError, match="is no path that can be resumed"):
        path(LASSO, data, resume=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_two_processes_do_not_share_a_run(path):
    data = TabularData("diabetes")
    found = path(LASSO, data, coefficient=[1.0, 0.1])
    with found.run.locked(), pytest.raises(ConfigurationError, match="is in use"):
        path(LASSO, data, coefficient=[1.0, 0.1], resume=found.run.path)
