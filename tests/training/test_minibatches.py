"""Minibatches: where parameters stand between steps, and what is summed on the device."""

import copy
import pickle
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from torchplug.batch import Batch
from torchplug.components.contracts import Loss
from torchplug.errors import NonFiniteGradientError
from torchplug.objective import StepObjective
from torchplug.objective.reductions import Ranks
from torchplug.training import Execution, Minibatches
from torchplug.training.lightning_internals import write_row
from torchplug.training.running_means import RunningMeans


class Squared(Loss):
    kind = "regression"

    def forward(self, scores, target):
        return (scores - target).square().sum(1)


class Switching(torch.optim.SGD):
    """Notes where it is asked to stand."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.calls = []

    def train(self):
        self.calls.append("train")

    def eval(self):
        self.calls.append("eval")


class Trainer:
    """What an execution strategy asks of Lightning's."""

    global_rank, world_size = 0, 1
    accumulate_grad_batches = 1
    num_training_batches = 4
    global_step = 0
    current_epoch = 0
    log_every_n_steps = 2
    precision_plugin = SimpleNamespace(precision="32-true", forward_context=nullcontext)
    train_dataloader = None
    lr_scheduler_configs = ()

    def __init__(self, network, optimizer):
        self.lightning_module = network
        self.optimizers = [optimizer]
        self.rows = []
        self.loggers = [SimpleNamespace(log_metrics=lambda row, step: self.rows.append(row), save=lambda: None)]
        done = SimpleNamespace(is_last_batch=True)
        self.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=0, batch_progress=done))
        self._logger_connector = SimpleNamespace(_logged_metrics={}, _callback_metrics={}, _progress_bar_metrics={})

    def written(self, name):
        return [float(row[name]) for row in self.rows if name in row]


def started(lr=0.1, reduction="mean"):
    network = nn.Linear(2, 1)
    optimizer = Switching(network.parameters(), lr=lr)
    execution = Minibatches(Execution(steps_per_execution=1))
    execution.start(Trainer(network, optimizer), StepObjective(network, Squared(), [], reduction))
    return network, optimizer, execution


def step(execution, optimizer, batch):
    def closure():
        optimizer.zero_grad()
        execution.training_step(batch).backward()
        execution.before_update()

    execution.optimizer_step(optimizer, closure)


def test_forward_sees_the_training_point_and_everybody_else_the_other():
    _, optimizer, execution = started()
    step(execution, optimizer, Batch(torch.ones(3, 2), torch.ones(3, 1), torch.ones(3), 3))
    assert optimizer.calls[-2:] == ["train", "eval"]
    execution.settle()
    assert optimizer.calls[-1] == "eval"


def test_the_row_is_the_weighted_mean_since_the_last_one():
    network, optimizer, execution = started(lr=1e-30)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    for rows, target in ((3, 1.0), (1, 5.0)):
        step(execution, optimizer, Batch(torch.ones(rows, 2), torch.full((rows, 1), target), torch.ones(rows), rows))
        execution.fit.trainer.global_step += 1
        execution.after_batch()
    assert execution.fit.trainer.written("train/loss") == [(3 * 1 + 25) / 4]
    step(execution, optimizer, Batch(torch.ones(2, 2), torch.full((2, 1), 2.0), torch.full((2,), 0.5), 2))
    execution.after_batch()
    execution.after_epoch()
    assert execution.fit.trainer.written("train/epoch_loss") == [(3 + 25 + 4) / 6]
    execution.after_batch()
    assert len(execution.fit.trainer.written("train/loss")) == 1, "a batch that ends no window gives no row"
    execution.fit.trainer.global_step += 1
    step(execution, optimizer, Batch(torch.ones(2, 2), torch.full((2, 1), 4.0), torch.ones(2), 2))
    execution.after_batch()
    assert execution.fit.trainer.written("train/loss")[1:] == [(4 + 32) / 4], "rows go on across epochs"
    execution.after_epoch()
    assert execution.fit.trainer.written("train/epoch_loss")[1:] == [16]


def test_the_objective_of_a_sum_is_that_of_a_step():
    network, optimizer, execution = started(lr=1e-30, reduction="sum")
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    for rows, target in ((3, 1.0), (1, 5.0)):
        step(execution, optimizer, Batch(torch.ones(rows, 2), torch.full((rows, 1), target), torch.ones(rows), rows))
        execution.fit.trainer.global_step += 1
        execution.after_batch()
    assert execution.fit.trainer.written("train/objective") == [(3 * 1 + 25) / 2]


def test_a_copy_belongs_to_no_trainer():
    execution = started()[2]
    for copied in (copy.deepcopy(execution), pickle.loads(pickle.dumps(execution))):
        assert vars(copied) == vars(Minibatches(execution.options))


@pytest.mark.parametrize(("thawed", "named"), [(False, "weight"), (True, "weight, bias")])
def test_layers_that_thaw_are_guarded(thawed, named):
    network, optimizer, execution = started()
    for trained in (False, thawed):
        network.bias.requires_grad_(trained)
        execution.refresh_trainable(lambda: StepObjective(network, Squared(), []))
    step(execution, optimizer, Batch(torch.full((3, 2), torch.nan), torch.ones(3, 1), torch.ones(3), 3))
    with pytest.raises(NonFiniteGradientError, match=f"the gradient of {named} is"):
        execution.settle()


def running_means():
    device = torch.device("cpu")
    return RunningMeans(device, Squared(), Ranks())


def test_running_mean_adds_in_float64():
    means = running_means()
    means.add(torch.tensor(1e8), 1)
    for _ in range(10):
        means.add(torch.tensor(1.0), 1)
    assert means.row() == (1e8 + 10, 11)


def test_losses_that_were_left_for_later_are_those_of_now():
    now, later = (running_means() for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for rows in [*range(1, 300), 70_000, 5, 0, 1]:
        scores, target = torch.randn(2, rows, 1, generator=generator)
        weight = torch.rand(rows, generator=generator) if rows % 3 else None  # None: all are 1
        values = Squared()(scores, target)
        now.add((values if weight is None else values * weight).sum(dtype=torch.float64), rows)
        later.defer(scores, target, weight)
    for sums in ("row", "epoch", "row", "epoch"):  # the second time there is nothing
        wanted, found = getattr(now, sums)(), getattr(later, sums)()
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=0)


def test_a_row_of_nothing_is_not_written():
    _, _, execution = started()
    write_row(execution.fit.trainer, {})
    assert execution.fit.trainer.rows == []


def test_what_is_left_for_later_is_bounded():
    means = running_means()
    for rows, kept in ((1, 127), (1000, 65_535)):
        for _ in range(500):
            means.defer(torch.zeros(rows, 1), torch.ones(rows, 1), torch.ones(rows))
            assert len(means._deferred) <= 127
            assert means._deferred_rows <= kept
    assert means.epoch() == (500 * 1001, 500 * 1001)
