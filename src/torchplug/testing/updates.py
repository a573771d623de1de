"""Checks of what optimizers declare: `update`, `update_fn`, elementwise steps, and proximal steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchplug.engine.train_step import settings_as_tensors
from torchplug.registry.component import Capability, Family
from torchplug.registry.foreign_code import one_line
from torchplug.testing.compared import copied, require_close, require_equal, saved_and_loaded
from torchplug.testing.descent import OptimizerSubject, evaluation
from torchplug.testing.record import NotApplicable, NotRun, check, require

_SHAPE = (2, 3)


class Given:
    """Steps along gradients that differ from element to element and from step to step, by `step` or `update`.

    Args:
        subject: the optimizer.
        parameters: what is optimized, in the order of the groups.
        groups: how it is divided; by default one group.
    """

    def __init__(
        self,
        subject: OptimizerSubject,
        parameters: Sequence[Tensor],
        groups: Callable[[list[Tensor]], Any] | None = None,
    ) -> None:
        self.parameters = [p.detach().clone().requires_grad_() for p in parameters]
        self._subject, self._groups = subject, groups or (lambda given: [{"params": given}])
        self.build()

    def build(self) -> None:
        """Make a new optimizer over the present parameters."""
        resolved = self._subject.resolved()
        if resolved.groups is not None or Capability.NAMES in self._subject.capabilities:
            raise NotApplicable("its groups are made by a rule, or by name")
        network = nn.ParameterList(self.parameters)
        try:
            self.optimizer: Any = resolved.build(
                self._groups(self.parameters), total_steps=1000, num_data=1000, model=network
            )
        except Exception as error:
            raise NotRun("it cannot be built, see the check builds_from_its_defaults") from error

    def steps(self, by: str, numbers: range, moving: slice = slice(None)) -> Given:
        """Make the steps of these numbers.

        Args:
            by: the method, `step` or `update`.
            numbers: which; gradients depend on them.
            moving: which parameters have gradients.
        """
        for number in numbers:
            if hasattr(self.optimizer, "train") and hasattr(self.optimizer, "eval"):
                self.optimizer.train()
            for p in self.parameters:
                p.grad = None
            for p in self.parameters[moving]:
                rough = torch.logspace(-3, 3, 6, dtype=torch.float64).repeat(p.numel() // 6).view_as(p).to(p.dtype)
                p.grad = rough * (p.detach() - 0.3) * (-1.0 if number % 3 == 2 else 1.0)
            getattr(self.optimizer, by)()
        return self

    def reload(self) -> None:
        """Save the state, and go on with a new optimizer that has loaded it."""
        evaluation(self.optimizer)
        state = saved_and_loaded(self.optimizer.state_dict(), "state_dict")
        self.build()
        self.optimizer.load_state_dict(state)

    @property
    def states(self) -> list[dict[str, Any]]:
        """The state of each parameter."""
        return [dict(self.optimizer.state.get(p, {})) for p in self.parameters]


def matrices(count: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return small matrices."""
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(_SHAPE, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]


def two_groups(parameters: list[Tensor]) -> list[dict[str, Any]]:
    """Return the first parameter in a group, and the others in one of half the learning rate."""
    return [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.02}]


@check(Family.OPTIMIZER, capability=Capability.UPDATE)
def update_is_the_step(subject: OptimizerSubject) -> None:
    """`update()` is `step()` bit for bit: with groups, changed rates, missing gradients, after saving and loading."""
    for dtype in (torch.float32, torch.float64):
        ended = []
        for by in ("step", "update"):
            given = Given(subject, matrices(dtype=dtype), two_groups)
            if Capability.PROX in subject.capabilities:
                given.optimizer.prox = {given.parameters[1]: lambda p, size: p / (1 + size)}
            given.steps(by, range(1, 6))
            given.optimizer.param_groups[0]["lr"] *= 0.5  # as a scheduler does
            given.steps(by, range(6, 8))
            given.reload()
            given.steps(by, range(8, 12), slice(1, None))
            ended.append((given.parameters, given.states))
        require_equal(ended[1][0], ended[0][0], "`update()` reaches other weights than `step()`")
        require_equal(ended[1][1], ended[0][1], "`update()` leaves another state than `step()`")


@check(Family.OPTIMIZER, capability=Capability.UPDATE)
def update_fn_is_the_update(subject: OptimizerSubject) -> None:
    """`update_fn` and `init_state` give weights and state of `update()` to rounding, and change no argument."""
    given = Given(subject, matrices(), two_groups)
    optimizer = _with_update_fn(given)
    points = [p.detach().clone() for p in given.parameters]
    states = [optimizer.init_state(point) for point in points]
    for number in range(1, 9):
        optimizer.param_groups[0]["lr"] *= 0.9  # as a scheduler does
        given.steps("update", range(number, number + 1))
        evaluation(optimizer)  # where the parameters of an update_fn are
        for i, parameter in enumerate(given.parameters):
            settings = settings_as_tensors(optimizer, optimizer.param_groups[min(i, 1)])
            before = copied((points[i], states[i]))
            points[i], states[i], after = _updated(optimizer, points[i], parameter.grad, states[i], settings)
            require_equal(after, before, "`update_fn` changes its arguments: leave out in-place operations")
            require_close(
                points[i], parameter, "weights by `update_fn` and by `update`", relative=1e-12, absolute=1e-14
            )
            own = optimizer.state.get(parameter, {})
            require(
                states[i].keys() <= own.keys(),
                f"`update_fn` keeps {', '.join(sorted(states[i].keys() - own.keys()))}, which `update` does not",
            )
            for key, value in states[i].items():
                require(
                    value.dtype == own[key].dtype, f"`update_fn` keeps {key} in {value.dtype}, not {own[key].dtype}"
                )
                require_close(
                    value, own[key], f"state {key} by `update_fn` and by `update`", relative=1e-11, absolute=1e-14
                )


@check(Family.OPTIMIZER, capability=Capability.UPDATE)
def step_goes_through_update(subject: OptimizerSubject) -> None:
    """With `update_fn`, `step` calls `self.update()`, so that a compiled one can replace it."""
    given = Given(subject, matrices(1))
    optimizer = _with_update_fn(given)
    calls = []
    optimizer.update = lambda: calls.append("update")
    returned = optimizer.step(lambda: "loss")
    require(calls == ["update"], f"`step` calls self.update() {len(calls)} times: call it once, after the closure")
    require(returned == "loss", "`step` does not return the closure's result")
    require_equal(given.parameters, matrices(1), "`step` changes weights beside self.update()")


@check(Family.OPTIMIZER, capability=Capability.UPDATE, costly=True)
def update_fn_compiles(subject: OptimizerSubject) -> None:
    """torch.compile makes one graph of `update_fn`, with the values of eager mode."""
    given = Given(subject, matrices(1))
    optimizer = _with_update_fn(given)
    point, gradient = matrices(2)
    state, settings = optimizer.init_state(point), settings_as_tensors(optimizer, optimizer.param_groups[0])
    expected = optimizer.update_fn(point, gradient, state, settings)
    torch._dynamo.reset()
    compiled: Any = torch.compile(optimizer.update_fn, backend="aot_eager", fullgraph=True)
    try:
        found = compiled(point, gradient, state, settings)
    except Exception as error:
        raise AssertionError(f"torch.compile makes no whole graph of `update_fn`: {one_line(error)[:200]}") from error
    require_close(found[0], expected[0], "weights by the compiled `update_fn` and in eager mode")


@check(Family.OPTIMIZER, capability=Capability.ELEMENTWISE)
def one_flat_tensor_is_several(subject: OptimizerSubject) -> None:
    """ELEMENTWISE: one flat tensor in place of several moves as they do."""
    for dtype, rounding in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        methods = ("step", "update") if Capability.UPDATE in subject.capabilities else ("step",)
        for by in methods:
            several = matrices(4, dtype)
            apart = Given(subject, several).steps(by, range(1, 9))
            together = Given(subject, [torch.cat([p.reshape(-1) for p in several])]).steps(by, range(1, 9))
            evaluation(apart.optimizer)
            evaluation(together.optimizer)
            wanted = torch.cat([p.reshape(-1) for p in apart.parameters])
            require_close(
                together.parameters[0],
                wanted,
                "one flat tensor and several (leave Capability.ELEMENTWISE out if elements are coupled)",
                relative=rounding,
                absolute=0.0,
            )


@check(Family.OPTIMIZER, capability=Capability.PROX, unless=Capability.OBJECTIVE)
def prox_as_declared(subject: OptimizerSubject) -> None:
    """PROX: a step applies the operators in `optimizer.prox`, to their parameters alone."""
    given = Given(subject, matrices(2))
    require(hasattr(given.optimizer, "prox"), "it has no attribute `prox`: subclass torchplug.ProximalOptimizer")
    penalized, free = given.parameters
    given.optimizer.prox = {penalized: lambda parameter, step: torch.zeros_like(parameter) + 0 * step}
    given.steps("step", range(1, 2))
    evaluation(given.optimizer)
    require(not bool(penalized.any()), "a step does not end with the prox of a parameter: apply `self.prox`")
    require(bool(free.any()), "a step applies the prox of another parameter")


def _with_update_fn(given: Given) -> Any:
    if not (hasattr(given.optimizer, "update_fn") and hasattr(given.optimizer, "init_state")):
        raise NotApplicable("it has no `update_fn` and `init_state`")
    return given.optimizer


def _updated(
    optimizer: Any, point: Tensor, gradient: Any, state: dict[str, Tensor], settings: dict[str, Any]
) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, dict[str, Tensor]]]:
    """Parameter and state after `update_fn`, and its arguments as they are afterwards."""
    after, kept = optimizer.update_fn(point, gradient, state, settings)
    return after, kept, (point, state)
