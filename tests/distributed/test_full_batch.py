"""Full-batch optimizers in two and three processes against one: the same weights on every rank."""

import pytest
import torch

from distributed_jobs import launch

L2 = [{"name": "l2", "parameters": {"coefficient": 0.01}}]
MLP = {"name": "mlp", "parameters": {"hidden": [5], "activation": "tanh"}}
RESIDUAL = ("gauss_newton", "levenberg", "levenberg_marquardt")
SMOOTH = ("line_search", "newton", "bfgs", "lbfgs")
CONVEX = {
    "closed_form": {"loss": "mse", "optimizer": "closed_form"},
    "closed_form gram": {"loss": "mse", "optimizer": {"name": "closed_form", "parameters": {"method": "gram"}}},
    **{name: {"loss": "mse", "optimizer": name} for name in RESIDUAL},
    **{f"{name} binary": {"loss": "bce", "kind": "binary", "optimizer": name} for name in SMOOTH},
    "proximal_newton binary": {
        "loss": "bce",
        "kind": "binary",
        "optimizer": "proximal_newton",
        "regularizers": [{"name": "l1", "parameters": {"coefficient": 0.02, "proximal": True}}],
    },
}
NETWORK = {name: {"model": MLP, "loss": "mse", "optimizer": name} for name in (*RESIDUAL, *SMOOTH)}


def results(folder, world, fits, epochs, rows):
    job = {
        "world": world,
        "fits": fits,
        "model": "linear",
        "regularizers": L2,
        "rows": rows,
        "batch_size": "full",
        "weighted": True,
        "trainer": {"max_epochs": epochs},
    }
    return launch(folder, "fit_each", job)


@pytest.mark.parametrize("world", [2, 3])
def test_convex_problems_have_one_answer(tmp_path, world):
    """2,600 rows make three runs of a thousand: some rank has several, or a short one."""
    (one,) = results(tmp_path / "one", 1, CONVEX, 300, 2600)
    ranks = results(tmp_path / "many", world, CONVEX, 300, 2600)
    for name, expected in one.items():
        for rank in ranks:
            assert torch.equal(rank[name]["weights"], ranks[0][name]["weights"]), name
            assert rank[name]["outcome"] == expected["outcome"] == "converged", name
        difference = (ranks[0][name]["weights"] - expected["weights"]).norm() / expected["weights"].norm()
        assert float(difference) <= 1e-10, name


def test_a_network_takes_the_same_twenty_steps(tmp_path):
    (one,) = results(tmp_path / "one", 1, NETWORK, 20, 2600)
    ranks = results(tmp_path / "two", 2, NETWORK, 20, 2600)
    for name, expected in one.items():
        assert torch.equal(ranks[0][name]["weights"], ranks[1][name]["weights"]), name
        assert ranks[0][name]["iteration"] == ranks[1][name]["iteration"], name
        assert ranks[0][name]["iteration"]["number"] == expected["iteration"]["number"], name
        difference = (ranks[0][name]["weights"] - expected["weights"]).norm() / expected["weights"].norm()
        assert float(difference) <= 1e-10, name


def test_a_rank_without_rows_takes_part(tmp_path):
    fits = {name: CONVEX[name] for name in ("closed_form", "newton binary", "levenberg_marquardt")}
    (one,) = results(tmp_path / "one", 1, fits, 100, 40)
    first, second = results(tmp_path / "two", 2, fits, 100, 40)
    for name, expected in one.items():
        assert torch.equal(first[name]["weights"], second[name]["weights"]), name
        assert torch.equal(first[name]["weights"], expected["weights"]), name
