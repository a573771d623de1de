"""Logistic regression, on the bundled breast cancer data: malignant or benign, from thirty measurements.

python recipes/logistic_regression.py
python recipes/logistic_regression.py fit --data.source churn.csv --data.target left
python recipes/logistic_regression.py test
"""

import sys

from torchplug import recipe, use

MODEL = use("linear")
LOSS = use("bce")
OPTIMIZER = use("nesterov", lr=0.5)
# λ = 1/(2n) with n = 341 training rows equals scikit-learn's C = 1. These classes are separable: without a penalty
# the coefficients would diverge. For your own data, use your own n.
REGULARIZERS = [use("l2", coefficient=1 / (2 * 341))]
DATA = {"source": "breast_cancer", "batch_size": "full"}
TRAINER = {"max_epochs": 200, "log_every_n_steps": 10}


@recipe.reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate or predict, depending on the subcommand."""
    components = {"model": MODEL, "loss": LOSS, "optimizer": OPTIMIZER, "regularizers": REGULARIZERS}
    settings = recipe.Settings(components, DATA, TRAINER)
    command = recipe.parse(__file__, arguments, settings)  # 1. the settings above, then files, environment, flags
    data = command.data()  # 2. the table: read, split, standardized
    module = command.module()  # 3. model, loss and optimizer by name, or the checkpoint's
    return command.run(module, data)  # 4. check, then train; or validate, test, predict


if __name__ == "__main__":
    sys.exit(main())
