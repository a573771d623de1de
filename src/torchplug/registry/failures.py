"""Exceptions of plugins' code, as one line that names the component and its distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from torchplug.errors import PluginError, PluginTrainingError, TorchplugError
from torchplug.memory import is_lack_of_memory
from torchplug.registry.foreign_code import one_line
from torchplug.tracebacks import TRACEBACKS

if TYPE_CHECKING:
    from torchplug.registry.resolved import Resolved

_LONGEST = 300
"""Characters of an exception's text."""


@contextmanager
def named_failures(components: Iterable[Resolved], training: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Convert an exception that leaves a plugin's code into one line that names the component.

    Its owner is found in the traceback: the innermost method of an object that a component has built. Exceptions of
    built-in components, of Lightning and its callbacks, and a lack of memory pass through.

    Args:
        components: those in use.
        training: whether training has begun.

    Raises:
        PluginError: before training.
        PluginTrainingError: during training.
    """
    try:
        yield
    except TorchplugError:
        raise
    except Exception as error:
        owner = None if is_lack_of_memory(error) else _owner(error, list(_with_nested(components)))
        if owner is None or owner.entry.builtin:
            raise
        raise failure(owner, error, training()) from error


def failure(component: Resolved, error: Exception, training: bool = False) -> PluginError:
    """Return the error for an exception of a component's code, with the place in its source."""
    entry, frames = component.entry, list(_frames(error))
    own = next((frame for frame in frames if _is_of(frame[0], component)), frames[0])
    code, line = own[0].f_code, own[1]
    text = one_line(error)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    kind = PluginTrainingError if training else PluginError
    return kind(
        f"{entry.distribution} {entry.version}: {entry.label} failed in {code.co_name}, "
        f"{Path(code.co_filename).name}:{line}: {text} ({TRACEBACKS}=1 shows the traceback)"
    )


def _owner(error: Exception, components: list[Resolved]) -> Resolved | None:
    """The component whose object's method is the innermost one; None if Lightning was called after all of them."""
    for frame, _ in _frames(error):
        if str(frame.f_globals.get("__name__", "")).startswith("lightning."):
            return None
        for component in components:
            if _is_of(frame, component):
                return component
    return None


def _frames(error: Exception) -> list[tuple[FrameType, int]]:
    """The traceback's frames with their lines, the innermost first."""
    found, traceback = [], error.__traceback__
    while traceback is not None:
        found.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found[::-1]


def _is_of(frame: FrameType, component: Resolved) -> bool:
    """Whether a frame runs a method of an object that the component has built, or the component's own function."""
    code = frame.f_code
    if code in (getattr(component.target, "__code__", None), getattr(component.groups, "__code__", None)):
        return True
    if code.co_argcount == 0:
        return False
    first: Any = frame.f_locals.get(code.co_varnames[0])
    return type(first) is component.target or type(first) in component.kinds


def _with_nested(components: Iterable[Resolved]) -> Iterator[Resolved]:
    for component in components:
        yield component
        yield from _with_nested(component.nested.values())
