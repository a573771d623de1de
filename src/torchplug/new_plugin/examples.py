"""The example of each family in a new plugin: its record in the plugin's hook, and a command that uses it."""

from __future__ import annotations

from dataclasses import dataclass

from torchplug.registry.component import Family


@dataclass(frozen=True)
class Example:
    """One documented component of a new plugin.

    Args:
        family: its family; the template of its module and of its test have the family's name.
        name: the component's name.
        target: its class.
        summary: one line.
        use: the flags with which a recipe uses it.
        record: the type of its record, a name that the plugin imports.
        options: further arguments of the record, as source.
        needs: names that `options` uses.
    """

    family: Family
    name: str
    target: str
    summary: str
    use: str
    record: str = "Component"
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


EXAMPLES = (
    Example(
        Family.MODEL,
        "wide_and_deep",
        "WideAndDeep",
        "a linear map plus a network with one hidden layer",
        "mlp.py fit --model.model wide_and_deep --model.model.hidden 16",
    ),
    Example(
        Family.LOSS,
        "pseudo_huber",
        "PseudoHuber",
        "quadratic near zero, linear in the tails, smooth everywhere",
        "linear_regression.py fit --model.loss pseudo_huber --model.loss.delta 0.5 --model.optimizer adam",
    ),
    Example(
        Family.OPTIMIZER,
        "sign_momentum",
        "SignMomentum",
        "steps of equal size along the signs of an averaged gradient",
        "mlp.py fit --model.optimizer sign_momentum --model.optimizer.lr 1e-3",
        options=("capabilities=frozenset({Capability.UPDATE})",),
        needs=("Capability",),
    ),
    Example(
        Family.REGULARIZER,
        "smooth_l1",
        "SmoothL1",
        "absolute values, rounded off at zero",
        "mlp.py fit --model.regularizers+=smooth_l1",
    ),
    Example(
        Family.SCHEDULER,
        "polynomial",
        "Polynomial",
        "falls to zero along a power of the time that is left",
        "mlp.py fit --model.scheduler polynomial --model.scheduler.power 2",
    ),
    Example(
        Family.METRIC,
        "max_error",
        "MaxError",
        "largest absolute error",
        "linear_regression.py fit --model.metrics+=max_error",
        record="Metric",
        options=('kinds=frozenset({"regression", "count"})', 'view="values"', 'direction="min"'),
    ),
)
