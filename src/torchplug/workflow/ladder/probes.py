"""Tests of a network that find faults without training it again."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from torchplug.batch import Rows
from torchplug.checked_network import evaluating
from torchplug.workflow.finding import Finding
from torchplug.workflow.ladder.codes import cause
from torchplug.workflow.ladder.problem import Problem
from torchplug.workflow.ladder.trial import Trial

_ROWS = 64
_SHARE = 0.9
_CLOSE = 1e-3
_KINKED = (nn.ReLU, nn.ReLU6)
_SATURATING = (nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid)


def defect(network: nn.Module, features: Tensor) -> Finding | None:
    """What is wrong with a network whether it learns or not."""
    if not bool(torch.isfinite(_scores(network, features[:_ROWS])).all()):
        return None  # which the loss shows
    return _random(network, features[:_ROWS]) or _mixed_rows(network, features[:_ROWS])


def structural_cause(problem: Problem, trial: Trial) -> Finding | None:
    """What keeps this network from learning, whatever the learning rate.

    Args:
        problem: configuration and data.
        trial: one that has not reached its threshold.
    """
    features = problem.train.features[:_ROWS]
    checks: list[Callable[[], Finding | None]] = [
        lambda: defect(trial.network, features),
        lambda: _dead_units(trial.network, features),
        lambda: _identical_units(trial.network),
        lambda: _ignored_inputs(trial.network, features),
        lambda: _repeated_link(problem, trial.network, features),
        lambda: _out_of_reach(problem, trial.network, trial.rows),
        lambda: _no_gradient(trial),
        lambda: _frozen(trial.network),
    ]
    return next((finding for check in checks if (finding := check()) is not None), None)


def _scores(network: nn.Module, features: Tensor) -> Tensor:
    with evaluating(network):
        scores: Tensor = network(features)
    return scores.double()


def _mixed_rows(network: nn.Module, features: Tensor) -> Finding | None:
    if len(features) < 2:
        return None
    together = _scores(network, features)
    alone = torch.cat([_scores(network, features[row : row + 1]) for row in range(min(4, len(features)))])
    difference = float((together[: len(alone)] - alone).abs().max())
    if difference <= _CLOSE * (1e-6 + float(together.abs().max())):
        return None
    return cause("TPL002", f"the scores of a row by itself differ by {difference:.3g} from those within a batch")


def _random(network: nn.Module, features: Tensor) -> Finding | None:
    first, second = _scores(network, features), _scores(network, features)
    difference = float((first - second).abs().max())
    if difference <= 1e-6 * (1e-6 + float(first.abs().max())):
        return None
    return cause("TPL003", f"two evaluations of the same rows differ by {difference:.3g}")


def _dead_units(network: nn.Module, features: Tensor) -> Finding | None:
    """Layers whose units hardly pass on anything, for any of the rows."""
    found: list[str] = []
    hooks = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def look(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(layer, _KINKED):
                asleep = output <= 0
            else:
                low, high = (0.0, 1.0) if isinstance(layer, nn.Sigmoid | nn.Hardsigmoid) else (-1.0, 1.0)
                asleep = (output - low).abs().minimum((output - high).abs()) < _CLOSE
            share = float(asleep.all(dim=0).double().mean())
            if share >= _SHARE and output.shape[-1] > 1:
                found.append(f"{share:.0%} of the units of {name} ({type(layer).__name__}) are {_state(layer)}")

        return look

    for name, layer in network.named_modules():
        if isinstance(layer, (*_KINKED, *_SATURATING)):
            hooks.append(layer.register_forward_hook(hook(name)))
    try:
        _scores(network, features)
    finally:
        for handle in hooks:
            handle.remove()
    return cause("TPL004", f"{found[0]} for all rows") if found else None


def _state(layer: nn.Module) -> str:
    return "zero" if isinstance(layer, _KINKED) else "saturated"


def _identical_units(network: nn.Module) -> Finding | None:
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    for name, layer in layers[:-1]:
        weight = layer.weight.detach()
        if len(weight) > 1 and bool((weight - weight[0]).abs().max() <= 1e-7 * (1e-30 + weight.abs().max())):
            return cause("TPL005", f"all {len(weight)} units of {name} have the same weights")
    return None


def _ignored_inputs(network: nn.Module, features: Tensor) -> Finding | None:
    scores = _scores(network, features)
    if len(features) < 2 or not float((features - features[0]).abs().max()) > 0:
        return None
    if float((scores - scores[0]).abs().max()) > 1e-7 * (1e-7 + float(scores.abs().max())):
        return None
    return cause("TPL006", f"{len(features)} different rows have the same scores")


def _pushed(network: nn.Module, features: Tensor, size: float) -> Tensor:
    """Scores with the last layer's biases, or weights, moved far away."""
    found = []
    layers = [layer for layer in network.modules() if any(True for _ in layer.parameters(recurse=False))]
    if not layers:
        return _scores(network, features)
    place = next(i for i, layer in enumerate(network.modules()) if layer is layers[-1])
    generator = torch.Generator().manual_seed(0)
    for sign in (-1.0, 1.0):
        copied = copy.deepcopy(network)
        last = list(copied.modules())[place]
        with torch.no_grad():
            bias = getattr(last, "bias", None)
            if isinstance(bias, Tensor):
                bias.add_(sign * size * (1 + torch.rand(bias.shape, generator=generator)).to(bias))
            else:
                for parameter in last.parameters(recurse=False):
                    parameter.mul_(sign * size)
        found.append(_scores(copied, features))
    return torch.cat(found)


def _repeated_link(problem: Problem, network: nn.Module, features: Tensor) -> Finding | None:
    task = problem.loss.task
    if not task.has_classes or task.probabilities is None:
        return None
    scores = _pushed(network, features, 1e3)
    low, high = float(scores.min()), float(scores.max())
    sums = scores.sum(dim=1)
    within = low >= 0 and high <= 1 + 1e-6
    if not within or (scores.shape[1] > 1 and float((sums - 1).abs().max()) > _CLOSE):
        return None
    name = "sigmoid" if scores.shape[1] == 1 else "softmax"
    return cause("TPL009", f"the scores stay in [0, 1], as after a {name}, whatever the last layer's biases are")


def _out_of_reach(problem: Problem, network: nn.Module, rows: Rows) -> Finding | None:
    if problem.has_classes or problem.loss.task.predicts_rates:
        return None
    target = problem.train.target.double()
    spread = float(target.std(correction=0)) or 1.0
    scores = _pushed(network, problem.train.features[:_ROWS], 1e3 * (spread + float(target.abs().max())))
    low, high = float(scores.min()), float(scores.max())
    outside = float(((target < low - _CLOSE * spread) | (target > high + _CLOSE * spread)).double().mean())
    if outside == 0.0:
        return None
    return cause(
        "TPL010",
        f"the scores cannot leave [{low:.3g}, {high:.3g}], whatever the last layer's biases are, and {outside:.0%} of "
        f"the targets, as the loss sees them, lie outside",
    )


def _no_gradient(trial: Trial) -> Finding | None:
    without = [name for name, largest in trial.gradients.items() if largest == 0.0]
    if not without:
        return None
    return cause("TPL007", f"the gradient of {', '.join(without[:3])} was zero at each of {trial.steps} steps")


def _frozen(network: nn.Module) -> Finding | None:
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    return cause("TPL008", f"requires_grad is off for {', '.join(frozen[:3])}") if frozen else None
