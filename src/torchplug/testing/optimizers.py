"""Checks of optimizers that see minibatches: descent, groups, state, closures. `updates` has those of `update`."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from torchplug.registry.component import Capability, Family
from torchplug.registry.foreign_code import one_line
from torchplug.testing.compared import copied, require_close, require_equal, same, saved_and_loaded
from torchplug.testing.descent import (
    Descent,
    OptimizerSubject,
    logistic,
    network_of,
    quadratic,
    quadratic_of,
    small_network,
    step,
)
from torchplug.testing.record import NotApplicable, NotRun, check, require

_STEPS = 30

_first_order = check(Family.OPTIMIZER, unless=Capability.OBJECTIVE)


@check(Family.OPTIMIZER)
def is_an_optimizer(subject: OptimizerSubject) -> None:
    """It is a torch.optim.Optimizer, and has every parameter in one of its groups."""
    network = small_network()
    optimizer = subject.over(network)
    require(isinstance(optimizer, torch.optim.Optimizer), f"it gives a {type(optimizer).__name__}: subclass Optimizer")
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    wanted = [id(p) for p in network.parameters()]
    require(
        sorted(held) == sorted(wanted), "its groups do not hold each parameter once: pass params to super().__init__"
    )


@_first_order
def decreases_a_quadratic(subject: OptimizerSubject) -> None:
    """Thirty steps with default settings decrease a well-conditioned convex quadratic."""
    descent = Descent(subject)
    before = descent.value
    _require_lower(descent.steps(_STEPS).value, before)


@_first_order
def decreases_a_logistic_loss(subject: OptimizerSubject) -> None:
    """Thirty steps with default settings decrease a mean logistic loss."""
    descent = Descent(subject, logistic, network_of(nn.Linear(4, 1)))
    before = descent.value
    _require_lower(descent.steps(_STEPS).value, before)


@_first_order
def groups_keep_their_settings(subject: OptimizerSubject) -> None:
    """Each parameter group has its own learning rate: at rate 0 its parameters stay, and the others move."""
    network = small_network()
    first, second = network[0], network[2]  # type: ignore[index]
    resolved = subject.resolved()
    if resolved.groups is not None:
        raise NotApplicable("a rule divides its parameters into groups")
    descent = Descent(subject, network=network)
    _require_rate(descent.optimizer)
    named = Capability.NAMES in subject.capabilities
    groups = [
        {"params": list(layer.named_parameters(prefix=name) if named else layer.parameters())}
        for name, layer in (("first", first), ("second", second))
    ]
    descent.optimizer = resolved.build(groups, total_steps=1000, num_data=1000, model=network)
    descent.optimizer.param_groups[1]["lr"] = 0.0
    before = copied((dict(first.named_parameters()), dict(second.named_parameters())))
    descent.must_step()
    require_equal(dict(second.named_parameters()), before[1], "a group of learning rate 0 moves: read group['lr']")
    require(
        not same(dict(first.named_parameters()), before[0]), "a group moves only if another's learning rate is not 0"
    )


@_first_order
def missing_gradients_are_skipped(subject: OptimizerSubject) -> None:
    """Parameters without a gradient stay, as in frozen or unused layers, and the others move."""
    descent = Descent(subject)
    used = list(descent.network[0].parameters())  # type: ignore[index]
    descent.function = lambda _: quadratic_of(used)
    before = descent.weights
    try:
        descent.steps(3)
    except Exception as error:
        raise AssertionError(
            f"it fails on a parameter without gradient: {one_line(error)[:200]}: skip those with p.grad None"
        ) from error
    after = descent.weights
    require_equal(after[2:], before[2:], "parameters without gradient move: skip those with p.grad None")
    require(not same(after[:2], before[:2]), "parameters with gradient stay where others have none")


@_first_order
def zero_rate_changes_nothing(subject: OptimizerSubject) -> None:
    """At learning rate 0, as schedulers may set it, no weight changes."""
    descent = Descent(subject)
    _require_rate(descent.optimizer)
    for group in descent.optimizer.param_groups:
        group["lr"] = 0.0 * group["lr"]
    before = descent.weights
    descent.must_step()
    require_equal(descent.weights, before, "weights change at learning rate 0: multiply every change by group['lr']")


@_first_order
def zero_gradients_stay_finite(subject: OptimizerSubject) -> None:
    """A step whose gradients are zero leaves finite weights."""
    descent = Descent(subject)
    descent.function = lambda network: 0.0 * quadratic(network)
    descent.must_step()
    finite = all(bool(weight.isfinite().all()) for weight in descent.weights)
    require(finite, "gradients of zero give weights that are not finite: divide by √v + ε, not by √v")


@_first_order
def optimizer_state_is_plain(subject: OptimizerSubject) -> None:
    """state_dict survives a weights-only load, so that the checkpoint can be read."""
    descent = Descent(subject).must_step()
    saved_and_loaded(descent.optimizer.state_dict(), "state_dict")


@_first_order
def optimizer_resumes(subject: OptimizerSubject) -> None:
    """A new instance with the saved state and weights goes on bit for bit."""
    descent = Descent(subject).must_step()
    other = Descent(subject)
    other.network.load_state_dict(copy.deepcopy(descent.network.state_dict()))
    other.optimizer.load_state_dict(copy.deepcopy(descent.optimizer.state_dict()))
    for one in (descent, other):
        torch.manual_seed(1)
        one.steps(3)
    require_equal(
        other.weights,
        descent.weights,
        "resumed from its state it goes elsewhere: keep all that it remembers in self.state[p] or in its groups",
    )


@_first_order
def steps_repeat(subject: OptimizerSubject) -> None:
    """With the same seed the same steps give the same weights, bit for bit."""
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        found.append(Descent(subject).must_step(5).weights)
    require_equal(
        found[1], found[0], "the same steps give other weights: draw random numbers by torch's generator only"
    )


@_first_order
def gradients_stay_unchanged(subject: OptimizerSubject) -> None:
    """A step leaves the gradients as they are, which loggers and callbacks read after it."""
    descent = Descent(subject)
    if Capability.CLOSURE in subject.capabilities or Capability.GRAPH in subject.capabilities:
        raise NotApplicable("its step evaluates gradients itself")
    descent.must_step()
    seen: list[Tensor] = []
    optimizer = descent.optimizer
    parameters = list(descent.network.parameters())

    def function(network: nn.Module) -> Tensor:
        seen[:] = [gradient.clone() for gradient in torch.autograd.grad(quadratic(network), parameters)]
        return quadratic(network)

    step(optimizer, subject.capabilities, lambda: function(descent.network))
    require_equal(
        [p.grad for p in parameters], seen, "its step changes the gradients: use copies, not in-place operations"
    )


@_first_order
def closure_as_declared(subject: OptimizerSubject) -> None:
    """step(closure) returns the first evaluation's value; one that does not declare CLOSURE evaluates once."""
    descent = Descent(subject).must_step()
    optimizer, values = descent.optimizer, []
    if hasattr(optimizer, "train") and hasattr(optimizer, "eval"):
        optimizer.train()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = quadratic(descent.network)
        loss.backward(create_graph=Capability.GRAPH in subject.capabilities)  # type: ignore[no-untyped-call]
        values.append(float(loss.detach()))
        return loss

    returned = optimizer.step(closure)
    require(values, "step(closure) never calls the closure: call it under torch.enable_grad() first")
    require(
        returned is not None, "step(closure) returns None: return what the closure returned first, for the logged loss"
    )
    require(
        float(returned) == values[0], f"step(closure) returns {float(returned):.6g}, the closure {values[0]:.6g} first"
    )
    if Capability.CLOSURE not in subject.capabilities:
        require(
            len(values) == 1,
            f"step(closure) evaluates the closure {len(values)} times: declare Capability.CLOSURE, so that it gets one",
        )


@_first_order
def optimizer_keeps_dtypes(subject: OptimizerSubject) -> None:
    """Weights in float32, float64 and bfloat16 keep their dtype and stay finite."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        descent = Descent(subject, network=small_network().to(dtype))
        try:
            descent.steps(3)
        except Exception as error:
            raise AssertionError(f"its step fails in {dtype}: {one_line(error)[:200]}") from error
        for weight in descent.weights:
            require(weight.dtype == dtype, f"weights in {dtype} become {weight.dtype}")
            require(bool(weight.isfinite().all()), f"weights in {dtype} are not finite after three steps")


@_first_order
def takes_every_shape(subject: OptimizerSubject) -> None:
    """Scalars, vectors, matrices and kernels of convolutions can be optimized together."""
    network = network_of(nn.Conv2d(2, 3, 2), nn.BatchNorm1d(3), nn.Linear(5, 2))
    network.register_parameter("scale", nn.Parameter(torch.tensor(0.5, dtype=torch.float64)))
    descent = Descent(subject, network=network)
    before = descent.value
    try:
        descent.steps(_STEPS)
    except Exception as error:
        raise AssertionError(
            f"it fails on a scalar, vector, matrix or kernel: {one_line(error)[:200]}: give the record a rule of groups"
        ) from error
    _require_lower(descent.value, before)


@_first_order
def groups_may_be_added(subject: OptimizerSubject) -> None:
    """A group that is added after some steps is optimized too, as callbacks that unfreeze layers need it."""
    descent = Descent(subject)
    if subject.resolved().groups is not None or Capability.NAMES in subject.capabilities:
        raise NotApplicable("its groups are made by a rule, or by name")
    descent.must_step()
    later = nn.Parameter(torch.ones(3, 2, dtype=torch.float64))
    descent.function = lambda network: quadratic(network) + quadratic_of([later])
    try:
        descent.optimizer.add_param_group({"params": [later]})
        descent.steps(3)
    except Exception as error:
        raise AssertionError(
            f"a group that is added after some steps fails: {one_line(error)[:200]}: initialize the state of each "
            "parameter at its own first step"
        ) from error
    require(not torch.equal(later.detach(), torch.ones(3, 2).double()), "a group that is added later does not move")


@_first_order
def evaluation_point_is_kept(subject: OptimizerSubject) -> None:
    """`eval` and `train` may be called again and again, and go back and forth between the same points."""
    descent = Descent(subject)
    if not (hasattr(descent.optimizer, "train") and hasattr(descent.optimizer, "eval")):
        raise NotApplicable("it has no `train` and `eval`")
    descent.must_step()
    points = []
    for mode in ("eval", "eval", "train", "train", "eval"):
        getattr(descent.optimizer, mode)()
        points.append(descent.weights)
    require_equal(points[1], points[0], "a second `eval` moves the weights: remember the mode")
    require_equal(points[3], points[2], "a second `train` moves the weights: remember the mode")
    for found, wanted in zip(points[4], points[0], strict=True):
        require_close(found, wanted, "the weights after `train` and `eval` and before")


@_first_order
def steps_on_meta_device(subject: OptimizerSubject) -> None:
    """On the meta device, which has no values, a step makes no tensor elsewhere and waits for no value."""
    if Capability.CLOSURE in subject.capabilities:
        raise NotApplicable("its step decides by the loss, whose value it must read")
    descent = Descent(subject, network=small_network().to("meta"))
    try:
        descent.steps(2)
    except Exception as error:
        raise AssertionError(
            f"its step fails on the meta device: {one_line(error)[:200]}: make tensors like the parameter, and do not "
            "read values, as by item, float or `if`"
        ) from error


@_first_order
def steps_on_cuda(subject: OptimizerSubject) -> None:
    """On CUDA the weights after some steps are those of the CPU to rounding."""
    if not torch.cuda.is_available():
        raise NotRun(f"torch {torch.__version__} sees no CUDA device")
    expected = Descent(subject).must_step(5).weights
    found = Descent(subject, network=small_network().to("cuda")).steps(5).weights
    for a, b in zip(found, expected, strict=True):
        require_close(a.cpu(), b, "weights on CUDA and CPU", relative=1e-7, absolute=1e-9)


@_first_order
def kernels_agree(subject: OptimizerSubject) -> None:
    """With `foreach` or `fused` kernels the weights are those of one tensor at a time, to rounding."""
    tried = Descent(subject)
    flags = [flag for flag in ("foreach", "fused") if flag in tried.optimizer.param_groups[0]]
    if not flags:
        raise NotApplicable("its groups have neither `foreach` nor `fused`")
    expected = _with_kernels(subject, dict.fromkeys(flags, False))
    for flag in flags:
        found = _with_kernels(subject, {**dict.fromkeys(flags, False), flag: True})
        for a, b in zip(found, expected, strict=True):
            require_close(a, b, f"weights with {flag} kernels and one tensor at a time", relative=1e-9)


def _with_kernels(subject: OptimizerSubject, flags: dict[str, bool]) -> list[Tensor]:
    descent = Descent(subject)
    for group in descent.optimizer.param_groups:
        group.update(flags)
    try:
        return descent.steps(4).weights
    except Exception as error:
        chosen = ", ".join(f"{flag}={value}" for flag, value in flags.items())
        raise AssertionError(f"its step fails with {chosen}: {one_line(error)[:200]}") from error


def _require_rate(optimizer: Any) -> None:
    if any("lr" not in group for group in optimizer.param_groups):
        raise NotApplicable("its groups have no `lr`")


def _require_lower(after: float, before: float) -> None:
    require(
        after < before,
        f"{_STEPS} steps with default settings lead from {before:.6g} to {after:.6g}: F must decrease",
    )
