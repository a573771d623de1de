"""A multilayer perceptron: which digit a small picture of 8 × 8 pixels shows.

python recipes/mlp.py
python recipes/mlp.py fit --model.model.hidden '[256,64]' --model.regularizers+=l2 --trainer.max_epochs 80
python recipes/mlp.py test
"""

import sys

from torchplug import recipe, use

MODEL = use("mlp", hidden=[128, 128], activation="relu", dropout=0.3)
LOSS = use("cross_entropy")
OPTIMIZER = use("adam", lr=2e-3)
SCHEDULER = use("cosine")
DATA = {"source": "digits", "batch_size": 64}
TRAINER = {"max_epochs": 40, "log_every_n_steps": 10}


@recipe.reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate or predict, as the arguments say."""
    components = {"model": MODEL, "loss": LOSS, "optimizer": OPTIMIZER, "scheduler": SCHEDULER}
    settings = recipe.Settings(components, DATA, TRAINER)
    command = recipe.parse(__file__, arguments, settings)  # 1. the settings above, then files, environment, flags
    data = command.data()  # 2. the table: read, split, standardized
    module = command.module()  # 3. model, loss and optimizer by name, or the checkpoint's
    return command.run(module, data)  # 4. check, then train; or validate, test, predict


if __name__ == "__main__":
    sys.exit(main())
