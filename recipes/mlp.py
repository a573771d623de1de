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
    numbers, rows, name = table.task == "regression", max(1, table.rows), table.model or "realmlp"
    embedding = "periodic" if numbers and table.features <= 100 else None
    if name == "realmlp":
        rate, activation = (0.2, "mish") if numbers else (0.04, "selu")
        model = use("realmlp", hidden=[128 if rows < 3000 else 256] * 3, activation=activation, embedding=embedding)
        optimizer = use("adamw", lr=rate, betas=(0.9, 0.95), weight_decay=0.02)
        scheduler = use("coslog", stop_early=table.validation_rows >= 500)  # fewer rows decide by chance
        epochs, most_steps = 256 if numbers else 128, 25_000
        batch = -(-rows // max(1, rows // 256))  # so that all batches have nearly the same size
    elif numbers:
        model = use("mlp", hidden=[256, 256], activation="silu", dropout=0.0, embedding=embedding)
        optimizer, scheduler, epochs, most_steps = use("adam", lr=3e-3), use("one_cycle"), 300, 100_000
        batch = 16 if rows < 1000 else 32 if rows < 10_000 else 64 if rows < 100_000 else 256
    else:
        model = use("mlp", hidden=[128, 128], activation="relu", dropout=0.3)
        optimizer, scheduler = use("adam", lr=2e-3), use("cosine")
        epochs, most_steps = 100 if rows < 1000 else 40, 30_000
        batch = 16 if rows < 1000 else 64 if rows < 100_000 else 256
    calibrate = not numbers and table.validation_rows > 0  # makes up for smoothed labels, unless a class is rare
    smoothing = {} if numbers else {"label_smoothing": 0.1 if calibrate and table.balance >= 0.1 else 0.0}
    loss = use("mse" if numbers else "bce" if table.task == "binary" else "cross_entropy", **smoothing)
    slots = {"model": model, "loss": loss, "optimizer": optimizer, "scheduler": scheduler, "calibrate": calibrate}
    return {
        "model": slots,
        "data": {"scale": "standard" if table.streamed else "robust", "batch_size": batch},  # robust needs all values
        "trainer": {"max_epochs": max(10, min(epochs, most_steps * batch // rows))},
    }


@recipe.reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate or predict, depending on the subcommand."""
    settings = recipe.Settings({}, DATA, TRAINER, adapt=adapt)
    command = recipe.parse(__file__, arguments, settings)  # 1. the settings above, then files, environment, flags
    data = command.data()  # 2. the table: read, split, scaled
    module = command.module()  # 3. model, loss and optimizer by name, or the checkpoint's
    return command.run(module, data)  # 4. check, then train; or validate, test, predict


if __name__ == "__main__":
    sys.exit(main())
