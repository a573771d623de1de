"""Searches of this folder: small ones on one table."""

import torchplug
from compared_fits import table
from torchplug import TabularData, use

RATES = {"model.optimizer.lr": [0.003, 0.03, 0.3]}
QUIET = {"accelerator": "cpu"}


def data(n=150, **settings):
    """A number to be predicted from three features, in batches of 16."""
    features = ["x0", "x1", "x2"]
    return TabularData(table(n).select(*features, "y"), "y", **{"batch_size": 16, **settings})


def linear(**parts):
    """A linear model with Adam."""
    return {"model": use("linear"), "loss": use("mse"), "optimizer": use("adam"), **parts}


def search(folder, config=None, tables=None, epochs=2, trainer=None, **settings):
    """A search below a folder, without repetitions."""
    settings = {"repeats": 0, "tracking": {"mode": "disabled"}, **settings}
    return torchplug.search(
        config or linear(),
        tables or data(),
        trainer={**QUIET, "max_epochs": epochs, **(trainer or {})},
        root=folder,
        **settings,
    )


def own_fit(folder, config, tables, epochs=2, **settings):
    """The same model by its own fit."""
    return torchplug.fit(
        config,
        tables,
        trainer={**QUIET, "max_epochs": epochs},
        tracking={"mode": "disabled"},
        root=folder / "own",
        **settings,
    )
