"""Linear regression by gradient descent, on the bundled diabetes data: disease progression from ten measurements.

python recipes/linear_regression.py
python recipes/linear_regression.py fit --data.source houses.csv --data.target price
python recipes/linear_regression.py test
"""

import sys

from torchplug import recipe, use

MODEL = use("linear")
LOSS = use("mse")
OPTIMIZER = use("nesterov", lr=0.05)
DATA = {"source": "diabetes", "batch_size": "full"}
TRAINER = {"max_epochs": 200, "log_every_n_steps": 10}


@recipe.reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate or predict, depending on the subcommand."""
    settings = recipe.Settings({"model": MODEL, "loss": LOSS, "optimizer": OPTIMIZER}, DATA, TRAINER)
    command = recipe.parse(__file__, arguments, settings)  # 1. the settings above, then files, environment, flags
    data = command.data()  # 2. the table: read, split, standardized
    module = command.module()  # 3. model, loss and optimizer by name, or the checkpoint's
    return command.run(module, data)  # 4. check, then train; or validate, test, predict


if __name__ == "__main__":
    sys.exit(main())
