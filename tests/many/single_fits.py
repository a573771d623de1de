"""Fits one by one, which models that are trained together are compared with."""

import copy

import torch

from compared_fits import table
from small_fits import trainer
from torchplug import ComponentModule, TabularData

WITHIN = {"64-true": 1e-9, "32-true": 1e-4}
FOLDS = [(list(range(50, 250)), list(range(50))), (list(range(103)), list(range(103, 130))), ([1, 2, 3, 7], [8, 9])]
"""Ragged: 29, 15 and 1 batch of 7 rows, all with a smaller last one."""


def data(target="y", n=250, **settings):
    """A table in batches of 7 rows."""
    features = [f"x{j}" for j in range(3)]
    return TabularData(table(n), target=target, features=features, **{"batch_size": 7, **settings})


def single(folder, config, tables, **settings):
    """The same model by its own module and Trainer."""
    config = dict(config)
    torch.manual_seed(config.pop("seed", 0))
    module = ComponentModule(**config)
    run = trainer(folder, **copy.deepcopy(settings))
    run.fit(module, tables)
    return module, run


def assert_equal(result, module, run, within):
    """Parameters, buffers, all metrics and predictions."""
    mine, its = result.module.network.state_dict(), module.network.state_dict()
    assert mine.keys() == its.keys()
    for name, value in its.items():
        torch.testing.assert_close(mine[name], value, rtol=within, atol=within)
    shared = [name for name in run.callback_metrics if name in result.metrics]
    assert {"train/epoch_loss", "val/loss"} <= set(shared)
    assert {name for name in run.callback_metrics if name.startswith("val/")} <= set(result.metrics)
    for name in shared:
        torch.testing.assert_close(
            torch.tensor(result.metrics[name], dtype=torch.float64),
            run.callback_metrics[name].double(),
            rtol=max(within, 1e-6),  # some are computed in single precision
            atol=max(within, 1e-6),
            equal_nan=True,
        )
