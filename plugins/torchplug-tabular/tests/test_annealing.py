"""Weight decay and dropout that fall during training: the same steps in every execution, resumed, and at once."""

import pytest
import torch
from lightning.pytorch import Callback

from compared_fits import MLP, Fit, assert_alike, differences, made, rows
from distributed_jobs import launch
from many.single_fits import WITHIN, assert_equal, data, single
from torchplug import ComponentModule, fit_many, use
from torchplug_tabular.realmlp import RealMLP

ADAMW = use("adamw", lr=0.02, weight_decay=0.5)
REALMLP = use("realmlp", hidden=[8, 8])
JOBS = {
    "weight decay": {"model": MLP, "optimizer": ADAMW, "scheduler": "coslog"},
    "both": {"model": REALMLP, "optimizer": ADAMW, "scheduler": "coslog"},
}


def test_dropout_falls_along_half_a_cosine_in_the_second_half():
    network = RealMLP(3, 1, hidden=[4, 4], dropout=0.2)
    layers = [layer for layer in network.layers if isinstance(layer, torch.nn.Dropout)]
    for passed, rate in ((0.0, 0.2), (0.25, 0.2), (0.5, 0.2), (0.75, 0.1), (1.0, 0.0), (0.1, 0.2)):
        network.anneal(passed)
        assert [layer.p for layer in layers] == pytest.approx([rate, rate])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_network_trains_and_drops_units(tmp_path):
    job = {**JOBS["both"], "max_epochs": 1, "data": lambda: rows(n=60)}
    compiled, plain = (Fit(tmp_path / engine, engine=engine, **job)() for engine in ("compiled", "autograd"))
    assert compiled.calls < compiled.run.global_step
    errors = [float(fit.run.callback_metrics["val/rmse"]) for fit in (compiled, plain)]
    assert errors[0] != errors[1]  # other units are dropped
    assert errors[0] == pytest.approx(errors[1], rel=0.1)


@pytest.mark.parametrize("engine", ["auto", "autograd"])
@pytest.mark.parametrize("name", JOBS)
def test_several_steps_per_call_are_single_steps(tmp_path, name, engine):
    fit = assert_alike(tmp_path, engine, **JOBS[name], max_epochs=3)
    decays = {group["weight_decay"] for group in fit.run.optimizers[0].param_groups}
    assert max(decays) < 1e-9  # at the end of the run


def test_a_group_falls_from_its_own_weight_decay(tmp_path):
    torch.manual_seed(0)
    module = ComponentModule(MLP, "mse", ADAMW, scheduler="coslog", groups={"weight": {"weight_decay": 2.0}})
    seen = []

    class Watch(Callback):
        def on_train_epoch_end(self, run, module):
            seen.append([group["weight_decay"] for group in run.optimizers[0].param_groups])

    Fit(tmp_path, module=module, callbacks=lambda folder: [Watch()], max_epochs=4)()
    assert seen == [[2.0, 0.0], [2.0, 0.0], [pytest.approx(1.0), 0.0], [0.0, 0.0]]


class SaveAt(Callback):
    """Saves after a step."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, run, module, outputs, batch, index):
        if run.global_step == self.step:
            run.save_checkpoint(self.path)


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize(("window", "step"), [(1, 55), (4, 15)])
def test_a_fit_that_is_resumed_ends_with_equal_bits(tmp_path, name, window, step):
    """Saved within the third epoch of four, in which both have begun to fall."""
    path = tmp_path / "within.ckpt"
    job = {**JOBS[name], "max_epochs": 4, "accumulate_grad_batches": window}
    whole = Fit(made(tmp_path / "whole"), callbacks=lambda folder: [SaveAt(step, path)], **job)()
    again = Fit(made(tmp_path / "again"), resume=path, **job)()
    assert again.calls < whole.calls
    first, second = (fit.everything()["checkpoint"] for fit in (whole, again))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "torchplug"):
        assert not differences(first[part], second[part], part)


@pytest.mark.parametrize("precision", WITHIN)
@pytest.mark.parametrize("hidden", [[5], [80, 60]], ids=["formula", "rows"])
def test_models_trained_at_once_have_their_own_fits_weight_decay(tmp_path, hidden, precision):
    model = use("mlp", hidden=hidden, activation="tanh")
    configs = [
        {"model": model, "optimizer": use("adamw", lr=0.02, weight_decay=decay), "scheduler": schedule}
        for decay, schedule in ((0.5, "coslog"), (5.0, use("coslog", cycles=2)), (5.0, use("flat_cosine")))
    ]
    settings = {"max_epochs": 3, "precision": precision}
    for config, result in zip(configs, fit_many(configs, data(), trainer=settings), strict=True):
        assert_equal(result, *single(tmp_path, config, data(), **settings), WITHIN[precision])


def test_a_model_that_drops_units_is_trained_by_itself_and_annealed(tmp_path):
    config = {"model": REALMLP, "optimizer": ADAMW, "scheduler": "coslog", "seed": 0}
    (result,) = fit_many([config], data(), trainer={"max_epochs": 2})
    module, run = single(tmp_path, config, data(), max_epochs=2)
    assert_equal(result, module, run, 0.0)


def test_ranks_anneal_alike(tmp_path):
    def named(name, **parameters):
        return {"name": name, "parameters": parameters}

    adamw = named("adamw", lr=0.01, weight_decay=0.5)
    models = {"mlp": named("mlp", hidden=[5]), "realmlp": named("realmlp", hidden=[5])}
    fits = {
        f"{name} {every} {steps}": {"model": model, "steps_per_execution": steps, "sync_every": every}
        for name, model in models.items()
        for every in (None, 3)
        for steps in (1, 16)
    }
    job = {
        "loss": "mse",
        "optimizer": adamw,
        "scheduler": "coslog",
        "rows": 101,
        "batch_size": 4,
        "world": 2,
        "trainer": {"max_epochs": 3, "log_every_n_steps": 1},
        "fits": fits,
    }
    ranks = launch(tmp_path, "steps", job)
    for name in models:
        for every in (None, 3):
            for rank in ranks:
                single, ahead = (dict(rank[f"{name} {every} {steps}"]) for steps in (1, 16))
                assert ahead.pop("calls") < single.pop("calls")
                assert differences(single, ahead) == []
                assert max(group["weight_decay"] for group in ahead["optimizer"]["param_groups"]) < 1e-9
            assert differences(*(rank[f"{name} {every} 16"]["network"] for rank in ranks)) == []
