"""A multilayer perceptron for numbers or classes; by default it classifies bundled images of digits, 8 × 8 pixels.

python recipes/mlp.py
python recipes/mlp.py fit --data.source houses.csv --data.target price
python recipes/mlp.py fit --model.model.hidden '[256,64]' --model.regularizers+=l2 --trainer.max_epochs 80
python recipes/mlp.py test
"""

import sys
from typing import Any

from torchplug import recipe, use

DATA = {"source": "digits", "clip_target": "auto"}
TRAINER = {"log_every_n_steps": 10}


def adapt(table: recipe.TableSummary) -> dict[str, dict[str, Any]]:
    """Return defaults for a table; flags, files and environment variables override them (reasons: docs/mlp.md)."""
    numbers = table.task == "regression"
    chosen, batch, epochs, most_steps = (realmlp if table.model in (None, "realmlp") else other_networks)(table)
    calibrate = not numbers and table.validation_rows > 0  # which makes up for smoothed labels
    smoothing = {} if numbers else {"label_smoothing": 0.1 if calibrate else 0.0}
    loss = use("mse" if numbers else "bce" if table.task == "binary" else "cross_entropy", **smoothing)
    scale = "standard" if table.streamed else "robust"  # the latter needs all values of a column
    epochs = max(10, min(epochs, most_steps * batch // max(1, table.rows)))
    return {
        "model": {**chosen, "loss": loss, "calibrate": calibrate},
        "data": {"scale": scale, "batch_size": batch},
        "trainer": {"max_epochs": epochs},
    }


def realmlp(table: recipe.TableSummary) -> tuple[dict[str, Any], int, int, int]:
    """Return components, batch size, epochs and the most steps for RealMLP, the default."""
    numbers, hidden = table.task == "regression", [128 if table.rows < 3000 else 256] * 3
    if numbers:
        embedding = "periodic" if table.features <= 100 else None
        model = use("realmlp", hidden=hidden, activation="mish", embedding=embedding)
    else:
        model = use("realmlp", hidden=hidden, activation="selu", embedding=None)
    optimizer = use("adamw", lr=0.2 if numbers else 0.04, betas=(0.9, 0.95), weight_decay=0.02)
    batch = -(-table.rows // max(1, table.rows // 256))  # so that all batches have nearly the same size
    components = {"model": model, "optimizer": optimizer, "scheduler": use("coslog")}
    return components, batch, 256 if numbers else 128, 25_000


def other_networks(table: recipe.TableSummary) -> tuple[dict[str, Any], int, int, int]:
    """Return components, batch size, epochs and the most steps for mlp and networks of plugins."""
    small = table.rows < 1000
    batch = 16 if small else 64 if table.rows < 100_000 else 256
    if table.task == "regression":
        batch = 32 if 1000 <= table.rows < 10_000 else batch
        embedding = "periodic" if table.features <= 100 else None
        model = use("mlp", hidden=[256, 256], activation="silu", dropout=0.0, embedding=embedding)
        return {"model": model, "optimizer": use("adam", lr=3e-3), "scheduler": use("one_cycle")}, batch, 300, 100_000
    model = use("mlp", hidden=[128, 128], activation="relu", dropout=0.3)
    components = {"model": model, "optimizer": use("adam", lr=2e-3), "scheduler": use("cosine")}
    return components, batch, 100 if small else 40, 30_000


@recipe.reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate or predict, depending on the subcommand."""
    settings = recipe.Settings({}, DATA, TRAINER, adapt=adapt)
    command = recipe.parse(__file__, arguments, settings)  # 1. the settings above, then files, environment, flags
    data = command.data()  # 2. the table: read, split, standardized
    module = command.module()  # 3. model, loss and optimizer by name, or the checkpoint's
    return command.run(module, data)  # 4. check, then train; or validate, test, predict


if __name__ == "__main__":
    sys.exit(main())
