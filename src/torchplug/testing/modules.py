"""Checks of models, losses and regularizers, which are functions of tensors: dtypes, devices, batches, transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map_only

from torchplug.registry.component import Family
from torchplug.registry.foreign_code import one_line
from torchplug.testing.compared import copied, require_close, require_equal, saved_and_loaded
from torchplug.testing.record import NotRun, check, require
from torchplug.testing.subject import Subject

_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}
_MODULES = (Family.MODEL, Family.LOSS, Family.REGULARIZER)
_OF_ROWS = (Family.MODEL, Family.LOSS)


class ModuleSubject(Subject):
    """A component that is a module."""

    rows = 5

    def module(self) -> nn.Module:
        """Return an instance in float64 and in evaluation mode.

        Raises:
            NotRun: if it is no module.
        """
        made = self.make()
        if not isinstance(made, nn.Module) or "_modules" not in vars(made):
            raise NotRun("it gives no initialized torch.nn.Module")
        return made.double().eval()

    def arguments(self, module: nn.Module) -> tuple[Any, ...]:
        """Return the arguments of its forward in float64, with `rows` rows where there are rows."""
        raise NotImplementedError

    def answer(self, instance: Any) -> Any:
        """What its forward gives."""
        module = instance.double().eval()
        return module(*self.arguments(module)).detach()

    def prepared(self) -> tuple[nn.Module, tuple[Any, ...], Tensor]:
        """Return a module, its arguments, and what it gives for them.

        Raises:
            NotRun: if it fails on them.
        """
        module = self.module()
        arguments = self.arguments(module)
        try:
            return module, arguments, module(*arguments).detach()
        except Exception as error:
            raise NotRun("its forward fails, see the check forward_works") from error


@check(*_MODULES)
def forward_works(subject: ModuleSubject) -> None:
    """The forward gives a finite tensor that depends on its arguments for autograd."""
    module = subject.module()
    found = module(*_attached(subject.arguments(module)))
    require(isinstance(found, Tensor), f"forward returns {type(found).__name__}, and not a tensor")
    require(bool(found.detach().isfinite().all()), "forward returns values that are not finite for ordinary arguments")
    require(found.requires_grad, "forward's result is cut off from autograd: leave out detach, numpy and item")


@check(*_MODULES)
def dtypes_are_kept(subject: ModuleSubject) -> None:
    """float32, float64 and bfloat16 give their own dtype, and the values of float64 to rounding."""
    for dtype, tolerance in _TOLERANCE.items():
        module, arguments, _ = subject.prepared()
        rounded = _cast(arguments, _to(dtype, torch.float64))
        expected = module.to(dtype).double()(*rounded).detach()
        given = _cast(rounded, _to(dtype))
        try:
            found = module.to(dtype)(*given).detach()
        except Exception as error:
            raise AssertionError(f"{dtype} fails: {one_line(error)}: make new tensors like the arguments") from error
        require(
            found.dtype == dtype,
            f"{dtype} arguments give {found.dtype}: make constants numbers, or tensors like the arguments",
        )
        size = float(expected.abs().max()) if expected.numel() else 0.0
        require_close(found, expected, f"values in {dtype} and float64", relative=tolerance, absolute=tolerance * size)


@check(*_MODULES)
def meta_device_works(subject: ModuleSubject) -> None:
    """On the meta device, which has no values: no tensor of another device is made, and nothing waits for values."""
    _require_device(subject, torch.device("meta"))


@check(*_MODULES)
def cuda_gives_the_same(subject: ModuleSubject) -> None:
    """On CUDA the values are those of the CPU to rounding."""
    if not torch.cuda.is_available():
        raise NotRun(f"torch {torch.__version__} sees no CUDA device")
    module, _, expected = subject.prepared()
    found = _require_device(subject, torch.device("cuda"), module)
    require_close(found.cpu(), expected, "values on CUDA and CPU", relative=1e-9, absolute=1e-12)


@check(*_MODULES)
def inputs_stay_unchanged(subject: ModuleSubject) -> None:
    """The forward changes none of its arguments, nor its own parameters."""
    module, arguments, _ = subject.prepared()
    before = copied((arguments, dict(module.named_parameters())))
    module(*arguments)
    require_equal(arguments, before[0], "forward changes its arguments: leave out in-place operations")
    require_equal(dict(module.named_parameters()), before[1], "forward changes its own parameters")


@check(*_MODULES)
def values_repeat(subject: ModuleSubject) -> None:
    """In evaluation mode the same arguments give the same values, without random numbers."""
    module, arguments, expected = subject.prepared()
    before = torch.random.get_rng_state()
    require_equal(module(*arguments).detach(), expected, "a second call gives other values: keep no state in forward")
    require(
        torch.equal(before, torch.random.get_rng_state()),
        "forward draws random numbers in evaluation mode: draw in training mode only",
    )


@check(*_MODULES)
def module_state_survives(subject: ModuleSubject) -> None:
    """state_dict is loaded weights-only by a new instance, which then gives the same values."""
    module, arguments, expected = subject.prepared()
    state = saved_and_loaded(module.state_dict(), "state_dict")
    other = subject.module()
    other.load_state_dict(state)
    require_equal(other(*arguments).detach(), expected, "a new instance with the saved state gives other values")


@check(*_OF_ROWS)
def empty_batch_works(subject: ModuleSubject) -> None:
    """A batch without rows gives a result without rows."""
    module, arguments, expected = subject.prepared()
    found = _on(module, _rows(arguments, slice(0, 0)), "no rows")
    wanted = (0, *expected.shape[1:])
    require(tuple(found.shape) == wanted, f"no rows give shape {tuple(found.shape)}, and not {wanted}")


@check(*_OF_ROWS)
def rows_are_independent(subject: ModuleSubject) -> None:
    """The value of a row is its own: a batch of one row gives what the row has among others."""
    module, arguments, expected = subject.prepared()
    for i in range(subject.rows):
        alone = _on(module, _rows(arguments, slice(i, i + 1)), "a single row")
        require_close(
            alone,
            expected[i : i + 1],
            "a row alone and among others (rows must not be coupled: weights, ranks and accumulation divide batches)",
        )


@check(*_OF_ROWS)
def rows_may_be_permuted(subject: ModuleSubject) -> None:
    """A permutation of the rows permutes the values."""
    module, arguments, expected = subject.prepared()
    order = torch.arange(subject.rows).roll(2)
    found = _on(module, _rows(arguments, order), "permuted rows")
    require_close(found, expected[order], "permuted rows and their values (a row's place must not count)")


@check(*_OF_ROWS)
def vmap_works(subject: ModuleSubject) -> None:
    """torch.func.vmap over a leading axis gives the values of each: no step depends on values, as by `if` or item."""
    module, arguments, expected = subject.prepared()
    stacked = _cast(arguments, lambda t: torch.stack([t, t.flip(0)]))
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    try:
        found = torch.func.vmap(lambda *each: functional_call(module, named, each))(*stacked)
    except Exception as error:
        raise AssertionError(f"torch.func.vmap fails: {one_line(error)}: use torch.where in place of `if`") from error
    require_close(found, torch.stack([expected, expected.flip(0)]), "values by vmap and without it")


@check(*_MODULES, costly=True)
def compiles_whole(subject: ModuleSubject) -> None:
    """torch.compile makes one graph of value and gradient, with the values of eager mode."""
    module, arguments, expected = subject.prepared()
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    try:
        found = compiled(*_attached(arguments))
        found.sum().backward()
    except Exception as error:
        raise AssertionError(
            f"torch.compile makes no whole graph of it: {one_line(error)[:200]}: leave out item, print and Python "
            "that depends on values"
        ) from error
    require_close(found, expected, "compiled values and those of eager mode")


def _require_device(subject: ModuleSubject, device: torch.device, module: nn.Module | None = None) -> Tensor:
    own, arguments, expected = subject.prepared()
    module = (own if module is None else module).to(device)
    try:
        found: Tensor = module(*_cast(arguments, lambda t: t.to(device))).detach()
    except Exception as error:
        raise AssertionError(
            f"forward fails on the device {device.type}: {one_line(error)[:200]}: make new tensors on the arguments' "
            "device, keep constants as buffers, and do not read values, as by item or bool"
        ) from error
    require(found.device.type == device.type, f"arguments on {device.type} give a result on {found.device.type}")
    require(found.shape == expected.shape, f"the result on {device.type} has shape {tuple(found.shape)}")
    return found


def _on(module: nn.Module, arguments: tuple[Any, ...], what: str) -> Tensor:
    try:
        found: Tensor = module(*arguments).detach()
    except Exception as error:
        raise AssertionError(f"{what}: forward fails: {one_line(error)[:200]}") from error
    return found


def _cast(arguments: tuple[Any, ...], change: Callable[[Tensor], Tensor]) -> tuple[Any, ...]:
    """The arguments, each of their tensors copied and changed."""
    changed: tuple[Any, ...] = tree_map_only(Tensor, lambda t: change(t.detach().clone()), arguments)
    return changed


def _attached(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies of the arguments, the first of which has a gradient."""
    return (*_cast(arguments[:1], lambda t: t.requires_grad_()), *_cast(arguments[1:], lambda t: t))


def _to(*dtypes: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Converts floating-point tensors to one dtype after the other."""

    def convert(tensor: Tensor) -> Tensor:
        for dtype in dtypes if tensor.is_floating_point() else ():
            tensor = tensor.to(dtype)
        return tensor

    return convert


def _rows(arguments: tuple[Any, ...], which: Any) -> tuple[Any, ...]:
    return _cast(arguments, lambda t: t[which])
