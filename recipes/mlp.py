"""A multilayer perceptron for numbers or classes; as it stands: which digit a small picture of 8 × 8 pixels shows.

python recipes/mlp.py
python recipes/mlp.py fit --data.source houses.csv --data.target price
python recipes/mlp.py fit --model.model.hidden '[256,64]' --model.regularizers+=l2 --trainer.max_epochs 80
python recipes/mlp.py test
"""

import sys
from typing import Any

from torchplug import recipe, use

SCHEDULER = use("cosine")
DATA = {"source": "digits"}
TRAINER = {"log_every_n_steps": 10}
LOSSES = {"regression": "mse", "binary": "bce", "multiclass": "cross_entropy"}


def adapt(table: recipe.TableSummary) -> dict[str, dict[str, Any]]:
    """Defaults by the rows, the features and the task of the training part; flags and files override each of them."""
    batch = 16
    while batch < 128 and table.rows > 48 * batch:
        batch *= 2
    smooth = table.task == "regression"
    model = use("mlp", hidden=[128, 128], activation="silu" if smooth else "relu", dropout=0.0 if smooth else 0.3)
    return {
        "model": {
            "model": model,
            "loss": use(LOSSES[table.task]),
            "optimizer": use("adam", lr=3e-3 if smooth else 2e-3),
        },
        "data": {"batch_size": batch},
        "trainer": {"max_epochs": 300 if smooth else 40},
    }


@recipe.reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate or predict, as the arguments say."""
    settings = recipe.Settings({"scheduler": SCHEDULER}, DATA, TRAINER, adapt=adapt)
    command = recipe.parse(__file__, arguments, settings)  # 1. the settings above, then files, environment, flags
    data = command.data()  # 2. the table: read, split, standardized
    module = command.module()  # 3. model, loss and optimizer by name, or the checkpoint's
    return command.run(module, data)  # 4. check, then train; or validate, test, predict


if __name__ == "__main__":
    sys.exit(main())
