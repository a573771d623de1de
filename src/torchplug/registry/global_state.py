"""Global state of the process that an import may change: compared, restored, and named.

torch and NumPy are looked at where they are imported already; nothing here imports them.
"""

from __future__ import annotations

import operator
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_SET_BY_LIBRARIES = frozenset({"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "PYTORCH_NVML_BASED_CUDA_CHECK"})
"""Variables that scikit-learn and Lightning set when they are first imported, which may be by a plugin."""
_INDUCTOR = "TORCHINDUCTOR_"
"""What the names of variables begin with that torch sets when its compiler is first imported."""


@dataclass(frozen=True)
class _Aspect:
    """One kind of global state.

    Args:
        name: as notes call it.
        read: returns its value.
        restore: sets it to a value that was read.
        module: where this is not imported, there is no value.
        fresh: the value right after the import of `module`, where that is known.
        changed: what differs between two values, as text; empty if nothing does.
    """

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]
    module: str = "sys"
    fresh: Callable[[], Any] | None = None
    changed: Callable[[str, Any, Any], str] = lambda name, before, after: name if before != after else ""


@contextmanager
def preserved() -> Iterator[list[str]]:
    """Restore global state after what is done within, and add the names of what it changed to the list.

    Other threads must leave that state alone meanwhile.
    """
    before = {aspect: _read(aspect) for aspect in _ASPECTS}
    changed: list[str] = []
    try:
        yield changed
    finally:
        for aspect, value in before.items():
            changed += _restored(aspect, value)


def _read(aspect: _Aspect) -> Any:
    """A value, or None where there is none: the working directory may have been deleted."""
    if aspect.module not in sys.modules:
        return None
    try:
        return aspect.read()
    except OSError:
        return None


def _restored(aspect: _Aspect, before: Any) -> list[str]:
    """Put a value back; what was changed, in a list of at most one."""
    after = _read(aspect)
    if before is None and after is not None and aspect.fresh is not None:
        before = aspect.fresh()
    if before is None or after is None or not (what := aspect.changed(aspect.name, before, after)):
        return []
    aspect.restore(before)
    return [what]


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not _of_libraries(name)}


def _of_libraries(name: str) -> bool:
    return name in _SET_BY_LIBRARIES or name.startswith(_INDUCTOR)


def _changed_variables(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    names = sorted(key for key in {**before, **after} if before.get(key) != after.get(key))
    return f"{name} ({', '.join(names)})" if names else ""


def _restore_variables(before: Mapping[str, str]) -> None:
    for name in set(_variables()) - set(before):
        del os.environ[name]
    os.environ.update(before)


def _broad(filters: list[Any]) -> list[Any]:
    """The warning filters that concern everybody's code: for any message and module, of a category of Python's own.

    Libraries add filters for their own messages, modules and categories, which stay.
    """
    everybodys = (kept for kept in filters if kept[1] is None and kept[3] is None)
    return [kept for kept in everybodys if getattr(kept[2], "__module__", "") == "builtins"]


def _changed_filters(name: str, before: list[Any], after: list[Any]) -> str:
    return name if _broad(before) != _broad(after) else ""


def _restore_filters(before: list[Any]) -> None:
    added = [new for new in warnings.filters if new not in before and new not in _broad([new])]
    warnings.resetwarnings()  # also forgets what was decided by the filters before
    warnings.filters[:] = [*added, *before]  # type: ignore[index]


def _handlers() -> dict[int, Any]:
    """Handlers of signals that Python can set again."""
    found = {int(number): signal.getsignal(number) for number in signal.valid_signals()}
    return {number: handler for number, handler in found.items() if handler is not None}


def _restore_handlers(before: Mapping[int, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread could have set them
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _restore_path(before: list[str]) -> None:
    sys.path[:] = before


def _numpy_state() -> tuple[Any, ...]:
    name, keys, *rest = sys.modules["numpy.random"].get_state()
    return (name, keys.tolist(), *rest)


def _torch(name: str) -> Callable[..., Any]:
    """A function of torch, found when it is called."""
    return lambda *arguments: operator.attrgetter(name)(sys.modules["torch"])(*arguments)


def _restore_torch_state(before: list[int]) -> None:
    torch: Any = sys.modules["torch"]
    torch.set_rng_state(torch.tensor(before, dtype=torch.uint8))


def _cpu() -> Any:
    return sys.modules["torch"].device("cpu")


def _restore_device(before: Any) -> None:
    # None rather than the CPU, for which every call of torch would pass through a mode
    sys.modules["torch"].set_default_device(None if before == _cpu() else before)


def _unseeded_torch_state() -> list[int]:
    """The state after the import of torch, which seeds it with 64 random bits; small seeds are set by hand."""
    torch: Any = sys.modules["torch"]
    if torch.initial_seed() >= 2**32:
        return list(torch.get_rng_state().tolist())
    generator = torch.Generator()
    generator.seed()
    return list(generator.get_state().tolist())


_ASPECTS = (
    _Aspect("the working directory", os.getcwd, os.chdir),
    _Aspect("environment variables", _variables, _restore_variables, changed=_changed_variables),
    _Aspect("sys.path", lambda: list(sys.path), _restore_path),
    _Aspect("warning filters", lambda: list(warnings.filters), _restore_filters, changed=_changed_filters),
    _Aspect("signal handlers", _handlers, _restore_handlers),
    _Aspect("Python's random generator", random.getstate, random.setstate),
    _Aspect(
        "NumPy's random generator",
        _numpy_state,
        lambda before: sys.modules["numpy.random"].set_state(before),
        "numpy.random",
    ),
    _Aspect(
        "torch's random generator",
        lambda: _torch("get_rng_state")().tolist(),
        _restore_torch_state,
        "torch",
        _unseeded_torch_state,
    ),
    _Aspect(
        "torch's default dtype",
        _torch("get_default_dtype"),
        _torch("set_default_dtype"),
        "torch",
        lambda: sys.modules["torch"].float32,
    ),
    _Aspect("torch's default device", _torch("get_default_device"), _restore_device, "torch", _cpu),
    _Aspect("torch's gradient mode", _torch("is_grad_enabled"), _torch("set_grad_enabled"), "torch", lambda: True),
    _Aspect(
        "torch's precision of matrix products",
        _torch("get_float32_matmul_precision"),
        _torch("set_float32_matmul_precision"),
        "torch",
        lambda: "highest",
    ),
    _Aspect(
        "torch's deterministic algorithms",
        _torch("are_deterministic_algorithms_enabled"),
        _torch("use_deterministic_algorithms"),
        "torch",
        lambda: False,
    ),
    _Aspect("torch's thread count", _torch("get_num_threads"), _torch("set_num_threads"), "torch"),
)
