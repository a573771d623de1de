"""The built-in components, registered through the hooks that plugins use.

Nothing here imports torch: a component's class is given as a string and imported on first use.
"""

from __future__ import annotations

from functools import partial

from torchplug.registry.component import Capability, Component, Metric
from torchplug.registry.hookspecs import hookimpl

_FIRST_ORDER = frozenset({Capability.PROX, Capability.ELEMENTWISE, Capability.UPDATE})


@hookimpl
def torchplug_models() -> list[Component]:
    """Networks that map features (n, d) to scores (n, k)."""
    return [
        Component("linear", "torchplug.components.models:Linear", "one linear map, with or without a bias"),
        Component("mlp", "torchplug.components.models:MLP", "chain of linear maps and activations"),
    ]


@hookimpl
def torchplug_losses() -> list[Component]:
    """Losses of regression and classification."""
    here = "torchplug.components.builtin.losses"
    return [
        Component("l1", f"{here}:L1", "absolute error ‖ŷ − y‖₁"),
        Component("mse", f"{here}:MSE", "squared error ‖ŷ − y‖²"),
        Component("bce", f"{here}:BCE", "binary cross entropy, from logits"),
        Component("cross_entropy", f"{here}:CrossEntropy", "cross entropy over classes, from logits"),
    ]


@hookimpl
def torchplug_optimizers() -> list[Component]:
    """First-order optimizers; the step of each applies proximal regularizers."""
    here, adaptive = "torchplug.components.builtin.optimizers", "torchplug.components.builtin.adaptive_optimizers"
    return [
        Component("sgd", f"{here}:SGD", "gradient descent, from one sample to the full batch", _FIRST_ORDER),
        Component("momentum", f"{here}:Momentum", "gradient descent with a velocity", _FIRST_ORDER),
        Component(
            "nesterov", f"{here}:Nesterov", "momentum with the gradient taken at the look-ahead point", _FIRST_ORDER
        ),
        Component(
            "rmsprop",
            f"{adaptive}:RMSprop",
            "steps divided by a running root mean square of the gradient",
            _FIRST_ORDER,
        ),
        Component(
            "adam", f"{adaptive}:Adam", "bias-corrected running means of the gradient and its square", _FIRST_ORDER
        ),
        Component("adamw", f"{adaptive}:AdamW", "adam with decoupled weight decay", _FIRST_ORDER),
    ]


@hookimpl
def torchplug_regularizers() -> list[Component]:
    """Penalties on parameters."""
    here = "torchplug.components.builtin.regularizers"
    return [
        Component("l2", f"{here}:L2", "sum of squares λΣθ²"),
        Component("l1", f"{here}:L1", "sum of magnitudes λΣ|θ|, by subgradient or proximal"),
        Component("elastic_net", f"{here}:ElasticNet", "both, λ₁Σ|θ| + λ₂Σθ²"),
    ]


@hookimpl
def torchplug_schedulers() -> list[Component]:
    """Schedules of the learning rate α."""
    here = "torchplug.components.builtin.schedulers"
    stateful = "torchplug.components.builtin.stateful_schedulers"
    return [
        Component("constant", f"{here}:Constant", "α stays α₀"),
        Component("inverse_time", f"{here}:InverseTime", "α₀ / (1 + t·epoch)"),
        Component("step", f"{here}:StepDecay", "α loses a fraction every n epochs"),
        Component("exponential", f"{here}:Exponential", "t^epoch · α₀"),
        Component("inverse_sqrt", f"{here}:InverseSqrt", "t/√epoch · α₀, epochs counted from 1"),
        Component("manual", f"{here}:Manual", "a table of epochs and learning rates"),
        Component("cosine", f"{here}:Cosine", "half a cosine from α₀ down, over the whole run"),
        Component("one_cycle", f"{here}:OneCycle", "up to α₀ and far down again, over the whole run"),
        Component("plateau", f"{stateful}:Plateau", "α is reduced when a metric stops improving"),
        Component("warmup", f"{stateful}:Warmup", "linear rise to α₀, then another schedule"),
    ]


@hookimpl
def torchplug_metrics() -> list[Metric]:
    """Metrics of splits; `torchplug.components.task` says which every evaluation has."""
    here = "torchplug.components.builtin.metrics"
    numbers = partial(Metric, kinds=frozenset({"regression", "count"}))
    scaled = partial(numbers, view="standardized", direction="max", needs_variation=True)
    classes = partial(Metric, kinds=frozenset({"binary", "margin", "multiclass"}), view="labels", direction="max")
    two = partial(Metric, kinds=frozenset({"binary", "margin"}), view="scores", direction="max", needs_variation=True)
    soft = partial(Metric, view="distributions", direction="min")
    calibrated = partial(Metric, kinds=frozenset({"binary", "multiclass"}), view="scores", direction="min")
    return [
        numbers("rmse", f"{here}:rmse", "root of the mean squared error", view="values", direction="min"),
        numbers("mae", f"{here}:mae", "mean absolute error", view="values", direction="min"),
        scaled("r2", f"{here}:r2", "share of the variance that is predicted"),
        classes("accuracy", f"{here}:accuracy", "share of rows whose class is predicted"),
        classes("macro_f1", f"{here}:macro_f1", "F1 averaged over classes"),
        two("auroc", f"{here}:auroc", "area under the ROC curve of the second class"),
        two("average_precision", f"{here}:average_precision", "precision averaged over recall"),
        soft("brier", f"{here}:Brier", "squared error of the probability", kinds=frozenset({"binary"})),
        calibrated("calibration_error", f"{here}:CalibrationError", "how far probabilities are from frequencies"),
        soft("log_loss", f"{here}:LogLoss", "cross entropy of class probabilities", kinds=frozenset({"multiclass"})),
    ]
