"""Checks of models: modules that map features (n, d) to scores (n, k)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchplug.components.contracts import linear_scores
from torchplug.components.parameter_groups import GroupSettings, matches
from torchplug.data_dependent_start import starts_from_rows
from torchplug.registry import Resolved
from torchplug.registry.component import Family
from torchplug.testing.compared import copied, require_close, require_equal
from torchplug.testing.modules import ModuleSubject
from torchplug.testing.record import NotApplicable, check, require

_SIZES = ((1, 1), (4, 3), (7, 2))
_PASSED = (0.0, 0.25, 0.75, 1.0)


class ModelSubject(ModuleSubject):
    """A model under test, of four features and three scores, on five rows."""

    inputs, outputs = 4, 3

    def built(self, resolved: Resolved) -> Any:
        """Build it for four features and three scores."""
        return resolved.build(self.inputs, self.outputs)

    def sized(self, inputs: int, outputs: int) -> Any:
        """Return an instance for other sizes, in float64."""
        return self.resolved().build(inputs, outputs).double()

    def arguments(self, module: Any) -> tuple[Tensor]:
        """Return features."""
        generator = torch.Generator().manual_seed(4)
        return (torch.randn(self.rows, self.inputs, generator=generator, dtype=torch.float64),)

    def module(self) -> nn.Module:
        """Return an instance whose weights are not zero, in evaluation mode."""
        module = super().module()
        generator = torch.Generator().manual_seed(6)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
        return module


@check(Family.MODEL)
def is_a_module(subject: ModelSubject) -> None:
    """It is a torch.nn.Module with trainable parameters."""
    made = subject.make()
    require(isinstance(made, nn.Module), f"it gives a {type(made).__name__}: return a torch.nn.Module")
    require("_modules" in vars(made), "its constructor does not call super().__init__()")
    require(any(p.requires_grad for p in made.parameters()), "it has no trainable parameter")


@check(Family.MODEL)
def sizes_follow_arguments(subject: ModelSubject) -> None:
    """`inputs` and `outputs` decide the sizes: features (n, inputs) give scores (n, outputs)."""
    subject.make()
    for inputs, outputs in _SIZES:
        found = subject.sized(inputs, outputs).eval()(torch.randn(6, inputs, dtype=torch.float64))
        require(
            tuple(found.shape) == (6, outputs),
            f"inputs={inputs}, outputs={outputs}: 6 rows give scores {tuple(found.shape)}, and not (6, {outputs})",
        )


@check(Family.MODEL)
def every_parameter_is_trained(subject: ModelSubject) -> None:
    """In training mode every parameter gets a finite gradient."""
    module, arguments, _ = subject.prepared()
    module.train()(*arguments).square().sum().backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            require(
                parameter.grad is not None,
                f"the parameter {name} gets no gradient, on which DDP stops: use it in forward, or leave it out",
            )
            require(bool(parameter.grad.isfinite().all()), f"the gradient of {name} is not finite")  # type: ignore[union-attr]


@check(Family.MODEL)
def seed_decides_the_start(subject: ModelSubject) -> None:
    """With the same seed of torch the initial weights are the same."""
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(subject.make().state_dict())
    require_equal(states[0], states[1], "the same seed gives other initial weights: draw them by torch's generator")


@check(Family.MODEL)
def training_scores_are_rows(subject: ModelSubject) -> None:
    """In training mode n rows give scores (n, outputs), or (m, n, outputs) of m members."""
    subject.make()
    found = tuple(subject.sized(4, 3).train()(torch.randn(6, 4, dtype=torch.float64)).shape)
    require(
        found[-2:] == (6, 3) and len(found) <= 3,
        f"in training mode 6 rows give scores {found}, and neither (6, 3) nor (members, 6, 3)",
    )


@check(Family.MODEL)
def group_settings_are_settings(subject: ModelSubject) -> None:
    """`group_settings` gives `lr` ≥ 0 and `weight_decay` ≥ 0 by patterns, each of which matches a parameter."""
    module = subject.make()
    declared = getattr(module, "group_settings", None)
    if declared is None:
        raise NotApplicable("it declares no `group_settings`")
    require(isinstance(declared, Mapping), f"`group_settings` is a {type(declared).__name__}: make it a mapping")
    names = [name for name, _ in module.named_parameters()]
    for pattern in GroupSettings(declared).settings:
        require(
            any(matches(name, pattern) for name in names),
            f"the pattern {pattern!r} of `group_settings` matches no parameter; these are {', '.join(names)}",
        )


@check(Family.MODEL)
def annealing_is_for_training(subject: ModelSubject) -> None:
    """`anneal` changes neither scores in evaluation mode nor weights and buffers, and draws no random numbers."""
    module, arguments, expected = subject.prepared()
    _require_anneal(module)
    state, generator = copied(module.state_dict()), torch.random.get_rng_state()
    for passed in _PASSED:
        module.anneal(passed)  # type: ignore[operator]
        require(torch.equal(generator, torch.random.get_rng_state()), f"anneal({passed:g}) draws random numbers")
        require_equal(module.state_dict(), state, f"anneal({passed:g}) changes weights or buffers")
        require_equal(
            module(*arguments).detach(), expected, f"anneal({passed:g}) changes the scores in evaluation mode"
        )


@check(Family.MODEL)
def annealing_follows_the_run(subject: ModelSubject) -> None:
    """In training mode scores depend on the last argument of `anneal` alone; without a call they are those of 0."""
    module, arguments, _ = subject.prepared()
    _require_anneal(module)
    wanted = {passed: _trained(copied(module), arguments, passed) for passed in _PASSED}
    require_equal(_trained(copied(module), arguments), wanted[0.0], "before `anneal` the scores are not those of 0")
    for passed in (*_PASSED, *reversed(_PASSED)):
        found = _trained(module, arguments, passed)
        require_equal(
            found, wanted[passed], f"anneal({passed:g}) gives other scores after other calls: compute from its argument"
        )


def _require_anneal(module: nn.Module) -> None:
    if not callable(getattr(module, "anneal", None)):
        raise NotApplicable("it has no `anneal`")


def _trained(module: Any, arguments: tuple[Tensor], *passed: float) -> Tensor:
    """Scores in training mode with a seed, after `anneal` if it is to be called."""
    for each in passed:
        module.anneal(each)
    torch.manual_seed(7)
    scores: Tensor = module.train()(*arguments).detach()
    return scores


@check(Family.MODEL)
def any_rows_give_a_start(subject: ModelSubject) -> None:
    """After `initialize_from`, with one row, equal rows or others, shapes are as before, and scores finite."""
    _require_start(subject)
    rows = subject.arguments(None)[0]
    for what, features in {"one row": rows[:1], "equal rows": rows[:1].expand(5, -1).clone(), "rows": rows}.items():
        module, given = subject.sized(4, 3), features.clone()
        before = {name: p.shape for name, p in module.named_parameters()}
        module.initialize_from(given)
        require(torch.equal(given, features), f"initialize_from changes its argument, {what}")
        after = {name: p.shape for name, p in module.named_parameters()}
        require(after == before, "initialize_from changes names or shapes of parameters")
        values = [*module.parameters(), module.eval()(rows)]
        require(all(bool(v.isfinite().all()) for v in values), f"initialize_from {what}: the network is not finite")


@check(Family.MODEL)
def seed_and_rows_decide_the_start(subject: ModelSubject) -> None:
    """With the same seed of torch and the same rows `initialize_from` gives the same parameters."""
    _require_start(subject)
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        module = subject.sized(4, 3)
        module.initialize_from(subject.arguments(module)[0])
        states.append(module.state_dict())
    require_equal(states[0], states[1], "the same seed and rows give another start: draw by torch's generator")


def _require_start(subject: ModelSubject) -> None:
    if not starts_from_rows(subject.make()):
        raise NotApplicable("it has no `initialize_from`")


@check(Family.MODEL)
def linear_as_declared(subject: ModelSubject) -> None:
    """`linear_scores()` gives its only parameters, weight first, and the scores are linear in them."""
    module, arguments, expected = subject.prepared()
    declared = linear_scores(module)
    if declared is None:
        raise NotApplicable("it declares no `linear_scores`")
    require_close(
        nn.functional.linear(arguments[0], *declared), expected, "scores and the linear map of `linear_scores`"
    )
    own, given = list(module.parameters()), [tensor for tensor in declared if tensor is not None]
    require(
        len(own) == len(given) and all(a is b for a, b in zip(own, given, strict=True)),
        "`linear_scores` must give all parameters themselves, weight (k, d) and bias (k,) or None, the weight first",
    )
