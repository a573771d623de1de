"""Other libraries on the same work: each as its own documentation has it, from the same initial weights."""

from __future__ import annotations

import itertools
import tempfile
import time
import warnings
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from training.ours import EpochClock, trainer_of
from training.problem import LEARNING_RATE, Problem, Trained


class Plain(lightning.LightningModule):
    """A LightningModule as everybody writes it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.network = problem.network
        self.loss = problem.loss

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The batch's loss, logged."""
        features, target = batch
        loss = self.loss(self.network(features), target)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam as torch makes it."""
        return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)


def plain_lightning(problem: Problem) -> Trained:
    """Lightning with a DataLoader, in the trainer that ours has, and its CSV logger."""
    clock, module = EpochClock(), Plain(problem)
    dataset = TensorDataset(problem.features, problem.target)
    loader = DataLoader(dataset, batch_size=problem.cell.batch, shuffle=problem.shuffle)
    with tempfile.TemporaryDirectory() as folder:
        trainer_of(problem.epochs, [clock], logger=CSVLogger(folder), devices=1).fit(module, loader)
    return Trained(clock.seconds, module.network)


def skorch(problem: Problem) -> Trained:
    """The net of the job's kind, with skorch's default callbacks, silent, and without a validation split."""
    from skorch import NeuralNetClassifier, NeuralNetRegressor
    from skorch.classifier import NeuralNetBinaryClassifier

    net, criterion = {
        "mse": (NeuralNetRegressor, nn.MSELoss),
        "bce": (NeuralNetBinaryClassifier, nn.BCEWithLogitsLoss),
        "cross_entropy": (NeuralNetClassifier, nn.CrossEntropyLoss),
    }[problem.cell.loss]
    target = problem.target.flatten() if problem.cell.loss == "bce" else problem.target
    model = net(
        problem.network,
        criterion=criterion,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        max_epochs=problem.epochs,
        batch_size=problem.cell.batch,
        iterator_train__shuffle=problem.shuffle,
        train_split=None,
        verbose=0,
    )
    model.fit(problem.features.numpy(), target.numpy())
    return Trained(list(model.history[:, "dur"]), model.module_)


def sklearn_mlp(problem: Problem) -> Trained:
    """MLPRegressor or MLPClassifier; hidden_layer_sizes=() makes a linear model of it.

    Its regressor halves the squared error, which Adam, blind to the scale of a loss, does not notice.
    """
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind: Any = MLPRegressor if problem.cell.loss == "mse" else MLPClassifier
    model = kind(
        hidden_layer_sizes=problem.cell.hidden,
        batch_size=problem.cell.batch,
        learning_rate_init=LEARNING_RATE,
        max_iter=problem.epochs,
        shuffle=problem.shuffle,
        alpha=0.0,
        tol=0.0,
        n_iter_no_change=10**6,
    )
    # It takes no initial weights and tells nobody when an epoch ends: both are had from methods of its own. Fitting
    # epoch by epoch with warm_start would forget Adam's moments, and partial_fit check the data anew in each epoch.
    initial, counted = iter(problem.layers()), model._update_no_improvement_count
    times: list[float] = []

    def epoch_ended(*arguments: Any) -> None:
        counted(*arguments)
        times.append(time.perf_counter())

    model._init_coef = lambda *_: next(initial)
    model._update_no_improvement_count = epoch_ended
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        model.fit(problem.features.numpy(), problem.labels)
    seconds = [end - begin for begin, end in itertools.pairwise([start, *times])]
    return Trained(seconds, problem.network_of(list(zip(model.coefs_, model.intercepts_, strict=True))))


def sklearn_sgd(problem: Problem) -> Trained:
    """SGDRegressor or SGDClassifier, for linear models: another algorithm, a step per sample, so only times compare."""
    from sklearn.linear_model import SGDClassifier, SGDRegressor

    model = (SGDRegressor if problem.cell.loss == "mse" else SGDClassifier)(
        loss="squared_error" if problem.cell.loss == "mse" else "log_loss",
        penalty=None,
        learning_rate="constant",
        eta0=LEARNING_RATE,
        max_iter=problem.epochs,
        tol=None,
        shuffle=problem.shuffle,
        random_state=0,
    )
    (weight, bias), *_ = problem.layers()
    start = time.perf_counter()
    model.fit(
        problem.features.numpy(),
        problem.labels,
        coef_init=weight.T if problem.cell.loss == "bce" else weight[:, 0],
        intercept_init=bias,
    )
    seconds = (time.perf_counter() - start) / problem.epochs
    trained = problem.network_of([(model.coef_.reshape(-1, 1), model.intercept_)])
    return Trained([seconds] * problem.epochs, trained)


def keras(problem: Problem) -> Trained:
    """A Sequential of Dense layers on arrays; Adam's epsilon is torch's, and not Keras's 1e-7."""
    import keras as keras_

    widths = [*problem.cell.hidden, problem.cell.outputs]
    dense = [keras_.layers.Dense(w, activation="relu") for w in widths[:-1]] + [keras_.layers.Dense(widths[-1])]
    model = keras_.Sequential([keras_.Input((problem.cell.features,)), *dense])
    for layer, (weight, bias) in zip(dense, problem.layers(), strict=True):
        layer.set_weights([weight, bias])
    loss = {
        "mse": keras_.losses.MeanSquaredError,
        "bce": lambda: keras_.losses.BinaryCrossentropy(from_logits=True),
        "cross_entropy": lambda: keras_.losses.SparseCategoricalCrossentropy(from_logits=True),
    }[problem.cell.loss]
    model.compile(optimizer=keras_.optimizers.Adam(LEARNING_RATE, epsilon=1e-8), loss=loss())
    times: list[float] = []
    clock = keras_.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: times.append(time.perf_counter()),
        on_train_end=lambda *_: times.append(time.perf_counter()),
    )
    model.fit(
        problem.features.numpy(),
        problem.target.numpy(),
        batch_size=problem.cell.batch,
        epochs=problem.epochs,
        shuffle=problem.shuffle,
        callbacks=[clock],
        verbose=0,
    )
    layers = [tuple(value.copy() for value in layer.get_weights()) for layer in dense]
    return Trained([end - begin for begin, end in itertools.pairwise(times)], problem.network_of(layers))
