"""A multilayer perceptron for numbers or classes; as it stands: which digit a small picture of 8 × 8 pixels shows.

python recipes/mlp.py
python recipes/mlp.py fit --data.source houses.csv --data.target price
python recipes/mlp.py fit --model.model.hidden '[256,64]' --model.regularizers+=l2 --trainer.max_epochs 80
python recipes/mlp.py test
"""

import sys
from typing import Any

from torchplug import recipe, use

DATA = {"source": "digits"}
TRAINER = {"log_every_n_steps": 10}


def adapt(table: recipe.TableSummary) -> dict[str, dict[str, Any]]:
    """Defaults by the training part; flags, files and variables override each of them (docs/mlp.md says why)."""
    small = table.rows < 1000
    batch = 16 if small else 64 if table.rows < 100_000 else 256
    if table.task == "regression":
        batch = 32 if 1000 <= table.rows < 10_000 else batch
        embedding = "periodic" if table.features <= 100 else None
        model = use("mlp", hidden=[256, 256], activation="silu", dropout=0.0, embedding=embedding)
        loss, rate, epochs, most_steps, scheduler = use("mse"), 3e-3, 300, 100_000, use("one_cycle")
    else:
        model = use("mlp", hidden=[128, 128], activation="relu", dropout=0.3)
        loss = use("bce" if table.task == "binary" else "cross_entropy")
        rate, epochs, most_steps, scheduler = 2e-3, 100 if small else 40, 30_000, use("cosine")
    epochs = max(10, min(epochs, most_steps * batch // max(1, table.rows)))
    return {
        "model": {"model": model, "loss": loss, "optimizer": use("adam", lr=rate), "scheduler": scheduler},
        "data": {"batch_size": batch},
        "trainer": {"max_epochs": epochs},
    }


@recipe.reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate or predict, as the arguments say."""
    settings = recipe.Settings({}, DATA, TRAINER, adapt=adapt)
    command = recipe.parse(__file__, arguments, settings)  # 1. the settings above, then files, environment, flags
    data = command.data()  # 2. the table: read, split, standardized
    module = command.module()  # 3. model, loss and optimizer by name, or the checkpoint's
    return command.run(module, data)  # 4. check, then train; or validate, test, predict


if __name__ == "__main__":
    sys.exit(main())
