"""Two and three processes against one: the same weights, the same metrics."""

import math
import os

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

import third_party
from distributed_jobs import launch

MLP = {"name": "mlp", "parameters": {"hidden": [5], "activation": "tanh"}}
PENALTIES = [{"name": "l2", "parameters": {"coefficient": 0.01}}]


def job(**changes):
    base = {
        "model": MLP,
        "loss": "mse",
        "optimizer": {"name": "momentum", "parameters": {"lr": 0.05}},
        "regularizers": PENALTIES,
        "scheduler": {"name": "inverse_time", "parameters": {"decay": 0.5}},
        "trainer": {"max_epochs": 3},
    }
    return {**base, **changes}


def test_equal_batches_give_the_bits_of_one_process(tmp_path):
    settings = {"rows": 48, "batch_size": 6}
    two = launch(tmp_path / "two", "fit", job(world=2, **settings))
    trainer = {"max_epochs": 3, "accumulate_grad_batches": 2}
    (one,) = launch(tmp_path / "one", "fit", job(world=1, **settings, trainer=trainer))
    for name, weights in one.items():
        assert torch.equal(two[0][name], two[1][name])
        assert torch.equal(two[0][name], weights), name


@pytest.mark.parametrize("weighted", [False, True])
def test_unequal_batches_equal_one_global_batch(tmp_path, weighted):
    """21 rows in global batches of 8: the last has 5, unevenly over two ranks; and windows of 2."""
    double = {"max_epochs": 3, "precision": "64-true"}
    two = launch(tmp_path / "two", "fit", job(world=2, rows=21, batch_size=4, weighted=weighted, trainer=double))
    (one,) = launch(tmp_path / "one", "fit", job(world=1, rows=21, batch_size=8, weighted=weighted, trainer=double))
    window = {**double, "accumulate_grad_batches": 2}
    (windowed,) = launch(
        tmp_path / "window", "fit", job(world=1, rows=21, batch_size=4, weighted=weighted, trainer=window)
    )
    for name, weights in one.items():
        assert torch.equal(two[0][name], two[1][name])
        for other in (two[0], windowed):
            np.testing.assert_allclose(other[name].numpy(), weights.numpy(), rtol=1e-12, atol=1e-13)


def test_a_rank_without_rows_takes_part(tmp_path):
    """5 rows in global batches of 4: the last holds one row, for one of two ranks."""
    double = {"max_epochs": 2, "precision": "64-true"}
    two = launch(tmp_path / "two", "fit", job(world=2, rows=5, batch_size=2, trainer=double))
    (one,) = launch(tmp_path / "one", "fit", job(world=1, rows=5, batch_size=4, trainer=double))
    for name, weights in one.items():
        np.testing.assert_allclose(two[0][name].numpy(), weights.numpy(), rtol=1e-12, atol=1e-13)
        assert torch.equal(two[0][name], two[1][name])


def test_proximal_steps_agree_over_ranks(tmp_path):
    l1 = [{"name": "l1", "parameters": {"coefficient": 0.3, "proximal": True}}]
    settings = {
        "model": "linear",
        "regularizers": l1,
        "rows": 30,
        "trainer": {"max_epochs": 20, "precision": "64-true"},
    }
    two = launch(tmp_path / "two", "fit", job(world=2, batch_size=5, **settings))
    (one,) = launch(tmp_path / "one", "fit", job(world=1, batch_size=10, **settings))
    for name, weights in one.items():
        np.testing.assert_allclose(two[0][name].numpy(), weights.numpy(), rtol=1e-11, atol=1e-12)
        assert torch.equal(two[0][name] == 0, weights == 0)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_evaluation_is_exact_for_every_size(tmp_path, world, kind):
    loss = "mse" if kind == "regression" else "bce"
    settings = {"model": "linear", "loss": loss, "kind": kind, "batch_size": 2, "world": world, "rows": 20}
    ranks = launch(tmp_path / "run", "evaluate", job(**settings))
    for rows in range(1, 11):
        expected = _expected(kind, ranks[0][rows]["scores"].double().numpy()[:, 0], ranks[0][rows]["target"])
        for rank in ranks:
            assert rank[rows]["values"].keys() == {f"val/{name}" for name in expected}
            for name, value in expected.items():
                got = rank[rows]["values"][f"val/{name}"]
                assert math.isnan(got) if math.isnan(value) else got == pytest.approx(value, rel=1e-6, abs=1e-7), name


def test_a_third_partys_metrics_count_every_row_once(tmp_path, distributions, monkeypatch):
    """With 1 to 10 rows on two ranks, some batches and one rank are empty."""
    third_party.install(distributions)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(distributions.folder), os.environ.get("PYTHONPATH", "")]))
    settings = {"world": 2, "kind": "binary", "loss": "bce", "model": "linear", "batch_size": 2, "optimizer": "sgd"}
    metrics = ["ranked", "share", {"name": "fbeta", "parameters": {"beta": 2.0}}]
    ranks = launch(tmp_path / "run", "evaluate", job(**settings, metrics=metrics, regularizers=[], scheduler=None))
    for rows in range(1, 11):
        y = (np.array(ranks[0][rows]["target"]) == "yes").astype(int)
        found = ranks[0][rows]["scores"].double().numpy()[:, 0] > 0
        for rank in ranks:
            values = {name.removeprefix("val/"): value for name, value in rank[rows]["values"].items()}
            assert values["share"] == pytest.approx(found.mean(), rel=1e-6)
            assert values["fbeta"] == pytest.approx(
                reference.fbeta_score(y, found, beta=2.0, zero_division=0), abs=1e-6
            )
            if len(set(y)) > 1:
                assert values["ranked"] == pytest.approx(values["auroc"], abs=1e-6)


def _expected(kind, scores, target):
    several = len(set(target)) > 1
    if kind == "regression":
        y = np.array(target)
        return {
            "loss": reference.mean_squared_error(y, scores),
            "rmse": reference.root_mean_squared_error(y, scores),
            "mae": reference.mean_absolute_error(y, scores),
            "r2": reference.r2_score(y, scores) if several else math.nan,
        }
    y, p = (np.array(target) == "yes").astype(int), 1 / (1 + np.exp(-scores))
    return {
        "loss": reference.log_loss(y, p, labels=[0, 1]),
        "accuracy": reference.accuracy_score(y, p > 0.5),
        "auroc": reference.roc_auc_score(y, p) if several else math.nan,
        "average_precision": reference.average_precision_score(y, p) if several else math.nan,
        "brier": float(np.mean((p - y) ** 2)),
    }
