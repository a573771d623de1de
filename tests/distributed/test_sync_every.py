"""Parameters that are averaged now and then, instead of gradients at each step."""

import pytest
import torch

from compared_fits import differences
from distributed_jobs import launch

SGD = {"name": "sgd", "parameters": {"lr": 0.02}}
FITS = {
    "exact": {},
    "every": {"sync_every": 1},
    "seldom": {"sync_every": 3},
    "seldom by single steps": {"sync_every": 3, "steps_per_execution": 1},
    "seldom by autograd": {"sync_every": 3, "engine": "autograd"},
    "adam": {"sync_every": 5, "optimizer": "adam"},
    "diverging": {"sync_every": 4, "model": "linear", "optimizer": {"name": "sgd", "parameters": {"lr": 1e30}}},
}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results of both ranks, each on rows of its own."""
    job = {
        "model": {"name": "mlp", "parameters": {"hidden": [5], "activation": "tanh"}},
        "loss": "mse",
        "optimizer": SGD,
        "rows": 101,
        "batch_size": 4,
        "world": 2,
        "trainer": {"max_epochs": 2, "log_every_n_steps": 2, "precision": "64-true"},
        "fits": FITS,
    }
    return launch(tmp_path_factory.mktemp("ranks"), "steps", job)


@pytest.mark.parametrize("name", FITS)
def test_ranks_end_alike(ranks, name):
    first, second = (rank[name] for rank in ranks)
    assert differences(first["network"], second["network"]) == []
    assert first["steps"] == second["steps"]


def test_gradient_descent_averaged_at_every_step_is_exact(ranks):
    """The mean of θ − α g_r is θ less α times the mean of g_r."""
    assert differences(ranks[0]["exact"]["network"], ranks[0]["every"]["network"], within=1e-12) == []


def test_averaging_seldom_is_another_algorithm_that_learns_too(ranks):
    exact, seldom = ranks[0]["exact"], ranks[0]["seldom"]
    assert differences(exact["network"], seldom["network"], within=1e-6) != []
    losses = [[row["train/loss"] for _, row in fit["rows"] if "train/loss" in row] for fit in (exact, seldom)]
    assert losses[1][-1] < losses[1][0]
    assert losses[1][-1] == pytest.approx(losses[0][-1], rel=0.2)


def test_steps_per_execution_and_engines_change_nothing(ranks):
    seldom = ranks[0]["seldom"]
    assert differences(seldom["network"], ranks[0]["seldom by single steps"]["network"]) == []
    assert differences(seldom["network"], ranks[0]["seldom by autograd"]["network"], within=1e-11) == []
    assert seldom["calls"] < seldom["steps"]


def test_the_optimizers_state_is_each_ranks_own(ranks):
    means = [rank["adam"]["optimizer"]["state"][0]["exp_avg"] for rank in ranks]
    assert not torch.equal(*means)


def test_every_rank_hears_of_a_gradient_that_is_not_finite(ranks):
    for rank in ranks:
        assert "NaN or infinite" in rank["diverging"]["failure"]
