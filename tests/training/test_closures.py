"""Optimizers that evaluate the loss themselves: a closure at every step, whose first evaluation is logged."""

import lightning
import pytest
import torch

import closures
from compared_fits import Recorder
from small_fits import regression, trainer
from torchplug import ComponentModule, fit_many, use
from torchplug.errors import ConfigurationError


@pytest.fixture(autouse=True)
def closing(distributions):
    closures.install(distributions)


class Losses(lightning.Callback):
    """The objective at the start of every epoch."""

    def __init__(self):
        self.before = []

    def on_train_epoch_start(self, trainer, module):
        rows = trainer.datamodule.training_set.read(0, trainer.datamodule.training_set.samples)
        with torch.no_grad():
            scores = module.network(rows.features.double())
            self.before.append(float(module.loss(scores, rows.target.double()).mean()))


def weights(module):
    return torch.cat([p.detach().reshape(-1) for p in module.network.parameters()])


def fitted(tmp_path, optimizer, steps="auto", batch_size=12, engine="auto", **settings):
    torch.manual_seed(0)
    module = ComponentModule("linear", "mse", optimizer, steps_per_execution=steps, engine=engine)
    run = trainer(tmp_path, max_epochs=3, precision="64-true", **settings)
    run.fit(module, regression(batch_size=batch_size))
    return module


@pytest.mark.parametrize("optimizer", ["sam", "undeclared"])
def test_each_step_has_its_closure(tmp_path, optimizer):
    auto, single = fitted(tmp_path, optimizer), fitted(tmp_path, optimizer, steps=1)
    assert torch.equal(weights(auto), weights(single))
    sharp = fitted(tmp_path, use("sam", rho=1e-9))
    assert not torch.allclose(weights(auto), weights(sharp), rtol=1e-4)  # its second gradient counts


@pytest.mark.parametrize("optimizer", ["sam", "undeclared", "quasi"])
@pytest.mark.parametrize("engine", ["auto", "autograd"])
def test_the_first_evaluation_of_a_step_is_logged(tmp_path, optimizer, engine):
    seen, logger = Losses(), Recorder()
    fitted(tmp_path, optimizer, batch_size=100, engine=engine, callbacks=[seen], logger=logger)
    for name in ("train/loss", "train/epoch_loss"):
        logged = [row[name] for _, row in logger.rows if name in row]
        assert logged == pytest.approx(seen.before, rel=1e-6)
    assert seen.before[-1] < seen.before[0]


@pytest.mark.parametrize(
    ("optimizer", "reason"), [("sam", "evaluates the loss by itself"), ("undeclared", "does not declare an update")]
)
def test_several_steps_per_execution_are_refused(tmp_path, optimizer, reason):
    with pytest.raises(ConfigurationError, match=f"steps_per_execution 4: the optimizer {optimizer} .*{reason}"):
        fitted(tmp_path, optimizer, steps=4)


def test_a_part_of_a_step_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="sam evaluates the loss several times in a step"):
        fitted(tmp_path, "sam", accumulate_grad_batches=2)


def test_a_method_of_that_name_is_no_declaration(tmp_path):
    helper, own = fitted(tmp_path, "helper"), fitted(tmp_path, use("sgd", lr=0.1))
    torch.testing.assert_close(weights(helper), weights(own), rtol=1e-12, atol=0)


def test_many_models_take_it_one_by_one():
    configs = [{"model": "linear", "optimizer": use("sam", rho=rho)} for rho in (1e-9, 0.5)]
    settings = {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False}
    sharp, flat = (result.module for result in fit_many(configs, regression(), trainer=settings))
    assert not torch.allclose(weights(sharp), weights(flat), rtol=1e-4)
