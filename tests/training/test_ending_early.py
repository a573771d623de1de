"""Runs that a schedule ends by the validation loss: in a fit, resumed, on ranks and within a program."""

import json

import pytest
import torch

import torchplug
from compared_fits import table
from distributed_jobs import launch
from many.single_fits import assert_equal, data, single
from small_fits import trainer
from torchplug import ComponentModule, TabularData, fit_many, use

PARTS = """
import torch


class Until(torch.optim.lr_scheduler.LRScheduler):
    stop_early = True

    def __init__(self, optimizer, epochs=3):
        self.epochs, self.losses = epochs, []
        super().__init__(optimizer)

    def get_lr(self):
        return list(self.base_lrs)

    def reason_to_end(self, loss):
        self.losses.append(loss)
        return f"{self.epochs} are enough" if len(self.losses) == self.epochs else None

    def state_dict(self):
        return {"last_epoch": self.last_epoch, "losses": list(self.losses)}
"""
ENDING = {"model": "linear", "optimizer": use("adam", lr=0.01), "scheduler": use("until", epochs=3)}


@pytest.fixture(autouse=True)
def parts(torchplug_distributions):
    """A schedule that ends a run after some epochs."""
    torchplug_distributions.module("until_parts", PARTS)
    torchplug_distributions.offer("until", ("schedulers", "until", "until_parts:Until"))


def fitted(folder, scheduler=ENDING["scheduler"], split=(0.8, 0.2), **settings):
    """A fit of ten epochs at most."""
    config = {**ENDING, "loss": "mse", "scheduler": scheduler}
    tables = TabularData(table(60), target="y", features=["x0", "x1"], split=list(split), batch_size=16)
    keywords = {"trainer": {"max_epochs": 10}, "tracking": {"mode": "disabled"}, "root": folder, **settings}
    return torchplug.fit(config, tables, **keywords)


def test_a_fit_ends_where_its_schedule_says_so(tmp_path):
    result = fitted(tmp_path)
    reason = "training ended after 3 epochs: 3 are enough"
    assert (result.outcome.name, result.outcome.reason) == ("limit", reason)
    assert json.loads((result.run.path / "outcome.json").read_text())["epochs"] == 3


def test_a_fit_that_is_resumed_has_seen_the_losses_before(tmp_path):
    first = fitted(tmp_path / "whole", use("until", epochs=6))
    part = fitted(tmp_path / "parts", use("until", epochs=6), trainer={"max_epochs": 4})
    assert "4 epochs are done" in part.outcome.reason
    again = fitted(tmp_path / "parts", use("until", epochs=6), ckpt_path=part.run.last)
    assert again.outcome.reason == first.outcome.reason == "training ended after 6 epochs: 6 are enough"
    for name, value in first.module.network.state_dict().items():
        torch.testing.assert_close(again.module.network.state_dict()[name], value, rtol=0, atol=0)


def test_a_fit_that_has_ended_may_train_on(tmp_path):
    first = fitted(tmp_path)
    again = fitted(tmp_path, ckpt_path=first.run.last)
    assert "10 epochs are done" in again.outcome.reason


def test_without_validation_rows_training_goes_on(tmp_path):
    assert "10 epochs are done" in fitted(tmp_path, split=(1.0, 0.0)).outcome.reason


def test_only_epochs_with_a_validation_count(tmp_path):
    result = fitted(tmp_path, trainer={"max_epochs": 10, "check_val_every_n_epoch": 2})
    assert result.outcome.reason == "training ended after 6 epochs: 3 are enough"


def test_coslog_ends_a_run_whose_validation_loss_has_settled(tmp_path):
    scheduler, optimizer = use("coslog", stop_early=True), use("adam", lr=1e-30)
    torch.manual_seed(0)
    module = ComponentModule("linear", "mse", optimizer, scheduler=scheduler)
    run = trainer(tmp_path, max_epochs=30)
    run.fit(module, data())
    assert run.current_epoch == 6
    assert module.outcome.reason == (
        "training ended after 6 epochs: cycle 2 of the learning rate did not lower the validation loss"
    )


def test_models_of_a_program_end_one_by_one(tmp_path):
    configs = [{**ENDING, "scheduler": use("until", epochs=epochs), "seed": epochs} for epochs in (2, 5, 9)]
    results = fit_many(configs, data(), trainer={"max_epochs": 6})
    for config, result, epochs in zip(configs, results, (2, 5, 6), strict=True):
        module, run = single(tmp_path, config, data(), max_epochs=6)
        assert run.current_epoch == epochs
        if epochs < 6:
            expected = f"training ended after {epochs} epochs: {epochs} are enough"
            assert result.outcome.reason == module.outcome.reason == expected
        assert_equal(result, module, run, 1e-4)


def test_ranks_end_together(tmp_path):
    job = {
        "loss": "mse",
        "optimizer": {"name": "adam", "parameters": {"lr": 1e-30}},
        "scheduler": {"name": "coslog", "parameters": {"stop_early": True}},
        "rows": 101,
        "batch_size": 4,
        "split": [0.8, 0.2],
        "world": 2,
        "trainer": {"max_epochs": 30},
        "fits": {"fit": {"model": "linear"}},
    }
    ranks = launch(tmp_path, "steps", job)
    per_epoch = 11  # 81 rows, in batches of 4 on each of two ranks
    assert [rank["fit"]["steps"] for rank in ranks] == [6 * per_epoch] * 2
