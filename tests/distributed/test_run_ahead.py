"""Two processes that make several steps per call, against the same two by single steps: the same bits."""

import pytest

from compared_fits import differences
from distributed_jobs import launch

MLP = {"name": "mlp", "parameters": {"hidden": [5], "activation": "tanh"}}
NORMALIZED = {"name": "mlp", "parameters": {"hidden": [5], "batch_norm": True}}


def named(name, **parameters):
    return {"name": name, "parameters": parameters}


# of 101 rows, global batches of 8: the last has 5, unevenly over the ranks
JOBS = {
    "momentum": {"optimizer": named("momentum", lr=0.02)},
    "nesterov": {"optimizer": named("nesterov", lr=0.02)},
    "adamw": {"optimizer": named("adamw", lr=0.01), "regularizers": [named("l2", coefficient=0.01)]},
    "proximal": {"regularizers": [named("l1", coefficient=0.1, proximal=True)]},
    "clipped": {"trainer": {"gradient_clip_val": 0.05}},
    "clipped-by-value": {"trainer": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}},
    "scheduled": {"scheduler": named("cosine", interval="step")},
    "weighted": {"weighted": True},
    "seldom-logged": {"trainer": {"log_every_n_steps": 3}},
    "limited": {"trainer": {"max_steps": 17}},
    "double": {"trainer": {"precision": "64-true"}},
    "bf16": {"trainer": {"precision": "bf16-mixed"}},
    "a-rank-without-rows": {"rows": 65},
    "classes": {"loss": "bce", "kind": "binary"},
    "aligned": {"rows": 256, "batch_size": 16},
    "diverging": {"model": "linear", "optimizer": named("sgd", lr=1e30)},
    "batch-norm": {"model": NORMALIZED, "rows": 96},
    "accumulated": {"trainer": {"accumulate_grad_batches": 2}},
    "norms-of-layers": {"gradient_norms": True},
}
ALONE = ("batch-norm", "accumulated")  # which several steps per call cannot be had for
ENGINES = {"auto": "analytic", "autograd": "autograd"}


def several(name):
    """What is compared with single steps."""
    return "auto" if name in (*ALONE, "momentum") else 16


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results of both ranks, for each job, engine and number of steps."""
    fits = {
        f"{name} {engine} {steps}": {**job, "engine": engine, "steps_per_execution": steps}
        for name, job in JOBS.items()
        for engine in ENGINES
        for steps in (1, several(name))
    }
    base = {
        "model": MLP,
        "loss": "mse",
        "optimizer": "adam",
        "rows": 101,
        "batch_size": 4,
        "world": 2,
        "trainer": {"max_epochs": 2, "log_every_n_steps": 1},
        "fits": fits,
    }
    return launch(tmp_path_factory.mktemp("ranks"), "steps", base)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", JOBS)
def test_several_steps_are_single_steps(ranks, name, engine):
    for rank in ranks:
        single, ahead = (dict(rank[f"{name} {engine} {steps}"]) for steps in (1, several(name)))
        calls = single.pop("calls"), ahead.pop("calls")
        assert differences(single, ahead) == []
        assert (single["failure"] is not None) == (name == "diverging")
        if name in ALONE:
            assert calls[0] == calls[1] >= single["steps"]
        elif name != "diverging":
            assert calls[1] < calls[0] == single["steps"]


@pytest.mark.parametrize("name", JOBS)
def test_ranks_stay_alike(ranks, name):
    for engine in ENGINES:
        first, second = (rank[f"{name} {engine} {several(name)}"] for rank in ranks)
        for thing in ("optimizer", "steps", "failure"):
            assert differences(first[thing], second[thing]) == []
        if name != "batch-norm":  # whose statistics are each rank's own, as DDP leaves them
            assert differences(first["network"], second["network"]) == []


def test_the_engines_are_those_asked_for_and_agree(ranks):
    for name in JOBS:
        chain, autograd = (ranks[0][f"{name} {engine} 1"] for engine in ENGINES)
        analytic = name not in ("bf16", "batch-norm")
        assert (chain["engine"], autograd["engine"]) == ("analytic" if analytic else "autograd", "autograd")
        if name == "double":
            assert differences(chain["network"], autograd["network"], within=1e-12) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_norms_of_layers_are_of_the_gradient_of_all_ranks(ranks, engine):
    first, second = (rank[f"norms-of-layers {engine} 16"]["rows"] for rank in ranks)
    norms = [{k: v for k, v in row.items() if k.startswith("train/gradient_norm")} for _, row in first]
    assert norms == [{k: v for k, v in row.items() if k.startswith("train/gradient_norm")} for _, row in second]
    rows = [row for row in norms if row]
    assert rows
    for row in rows:
        whole = row.pop("train/gradient_norm")
        assert len(row) == 2
        assert sum(value**2 for value in row.values()) == pytest.approx(whole**2)
