"""Discovery: which plugins are installed, their components, and their errors.

With the markers in `hookspecs` this is the only code that imports pluggy. Entry points are loaded one
by one, because pluggy's own loader stops the host at the first broken plugin. An installed plugin is
trusted code: errors are caught here, but this is no sandbox.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Literal, get_args

import pluggy

from torchplug.errors import PluginError
from torchplug.registry import hookspecs
from torchplug.registry.component import Capability, Component, Direction, Family, Kind, Metric, View

GROUP = "torchplug"
"""The entry-point group of plugins."""
BUILTIN = "torchplug"
"""The distribution whose components own their bare names."""
ALLOW_LIST = "TORCHPLUG_PLUGINS"
"""The environment variable naming the distributions that may load, separated by commas."""
SLOW_SECONDS = 1.0
"""Bound on the time of import and hooks together, because every command waits for them."""

_TAKEN = ("loss", "epoch_loss")
"""Names of logged values that are no metric's."""

Status = Literal["loaded", "blocked", "broken", "missing"]
Offer = tuple[Family, Component]

_HOOKS = tuple(family.hook for family in Family)


@dataclass(frozen=True)
class Plugin:
    """The result of loading one entry point: the provenance of its components.

    Args:
        distribution: the normalised name of the distribution (PEP 503).
        version: its version; empty if the distribution is missing.
        status: `loaded`; `blocked` by the allow-list, and not imported; `broken`, see `error`;
            or `missing`, named by the allow-list but not installed.
        entry_point: the module that it names.
        hooks: the hooks that it implements.
        components: the components that they returned, each with its family.
        error: why it is broken, in one line.
        note: what its author should fix although it loaded, in one line.
        seconds: wall time of import and hooks.
    """

    distribution: str
    version: str
    status: Status
    entry_point: str = ""
    hooks: tuple[str, ...] = ()
    components: tuple[Offer, ...] = ()
    error: str | None = None
    note: str | None = None
    seconds: float = 0.0

    @property
    def trouble(self) -> str | None:
        """Why its components are unavailable, in one line; None for a plugin that loaded."""
        if self.status == "loaded":
            return None
        if self.status == "blocked":
            return f"{self.distribution} {self.version} is blocked by {ALLOW_LIST}"
        if self.status == "missing":
            return f"{self.distribution} is named by {ALLOW_LIST} but is no installed plugin"
        return f"{self.distribution} {self.version} is broken: {self.error}"


def canonical_name(distribution: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def one_line(error: BaseException) -> str:
    """An exception's type and text, without line breaks."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def discover(*, strict: bool = False) -> tuple[Plugin, ...]:
    """Load all allowed plugins, sorted by distribution; a failure of one does not affect the others.

    Args:
        strict: raise an error for broken, missing or slow plugins, for a plugin's own tests.

    Raises:
        PluginError: only if `strict`, naming the first such plugin.
    """
    allowed = _allowed()
    found: list[Plugin] = []
    offered: set[tuple[str, Family, str]] = set()
    for name, distribution in sorted(_advertisers().items()):
        for plugin in _load_all(name, distribution, allowed=allowed is None or name in allowed | {BUILTIN}):
            checked = _refuse_repetition(plugin, offered)
            offered.update((name, family, component.name) for family, component in checked.components)
            found.append(checked)
    installed = {plugin.distribution for plugin in found}
    found += [Plugin(name, "", "missing") for name in sorted((allowed or set()) - installed - {BUILTIN})]
    if strict:
        _refuse_trouble(found)
    return tuple(found)


def _allowed() -> set[str] | None:
    """The distributions that the environment allows; None if it allows all."""
    value = os.environ.get(ALLOW_LIST)
    if value is None:
        return None
    return {canonical_name(name.strip()) for name in value.split(",") if name.strip()}


def _advertisers() -> dict[str, Distribution]:
    """The distributions with an entry point of this group, by normalised name.

    An editable install may be on `sys.path` twice; as for imports, the first one counts. A folder
    without a name in its metadata is the remainder of an uninstallation, not a distribution.
    """
    found: dict[str, Distribution] = {}
    for distribution in distributions():
        try:
            # Reading the small file first spares parsing the metadata of everything that is installed.
            if GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
            metadata = distribution.metadata
        except (OSError, ValueError):  # undecodable: its distribution cannot be determined
            continue
        if "Name" in metadata:
            found.setdefault(canonical_name(metadata["Name"]), distribution)
    return found


def _load_all(name: str, distribution: Distribution, *, allowed: bool) -> Iterator[Plugin]:
    version = distribution.metadata.get_all("Version", [""])[0]
    try:
        entry_points = sorted(distribution.entry_points.select(group=GROUP))
    except Exception as error:
        yield Plugin(name, version, "broken", error=f"its entry_points.txt cannot be read: {one_line(error)}")
        return
    for entry_point in entry_points:
        if allowed:
            yield _load(Plugin(name, version, "loaded", entry_point.value), entry_point)
        else:
            yield Plugin(name, version, "blocked", entry_point.value)


def _load(plugin: Plugin, entry_point: EntryPoint) -> Plugin:
    """Import a plugin and call its hooks, recording errors."""
    started = time.perf_counter()
    try:
        with _guarded(f"import of {entry_point.value} failed"):
            module = entry_point.load()
        with _guarded("its hooks cannot be registered"):
            manager = _manager(module)
        plugin = replace(plugin, hooks=tuple(hook for hook in _HOOKS if _implemented(manager, hook)))
        offers: list[Offer] = []
        for family in Family:
            with _guarded(f"{family.hook} failed"):
                offers += _offers(manager, family)
        plugin = replace(plugin, components=tuple(offers))
    except PluginError as error:
        plugin = replace(plugin, status="broken", error=str(error))
    seconds = time.perf_counter() - started
    note = None
    if plugin.status == "loaded" and seconds > SLOW_SECONDS:
        note = f"took {seconds:.1f} s to load: import heavy modules in targets, not in {entry_point.value}"
    return replace(plugin, seconds=seconds, note=note)


@contextmanager
def _guarded(what: str) -> Iterator[None]:
    """Turn whatever a plugin's code raises into a PluginError, except the user's Ctrl-C."""
    try:
        yield
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what}: {one_line(error)}") from error


def _manager(module: Any) -> pluggy.PluginManager:
    """A manager with this plugin alone: hook wrappers of one plugin must not reach another's results."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, "plugin")
    callers = manager.get_hookcallers(module) or []
    unmarked = [hook for hook in _HOOKS if inspect.isfunction(getattr(module, hook, None))]
    unmarked = [hook for hook in unmarked if not _implemented(manager, hook)]
    if unmarked:
        raise PluginError(f"{unmarked[0]} is not marked with @torchplug.hookimpl")
    for caller in callers:
        if not caller.has_spec() and not all(impl.optionalhook for impl in caller.get_hookimpls()):
            near = difflib.get_close_matches(caller.name, _HOOKS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"hooks are {', '.join(_HOOKS)}"
            raise PluginError(f"there is no hook {caller.name}: {hint}")
    if not callers:
        raise PluginError(f"it implements no hook; mark one of {', '.join(_HOOKS)} with @torchplug.hookimpl")
    return manager


def _implemented(manager: pluggy.PluginManager, hook: str) -> bool:
    return bool(getattr(manager.hook, hook).get_hookimpls())


def _offers(manager: pluggy.PluginManager, family: Family) -> list[Offer]:
    """The checked components that a plugin returns for one family."""
    if not _implemented(manager, family.hook):
        return []
    results = getattr(manager.hook, family.hook)()
    if not results:  # pluggy drops a None
        raise PluginError(f"{family.hook} returned None, not a list of Component")
    components = list(results[0])
    names: set[str] = set()
    for component in components:
        fault = _fault(component) or (_metric_fault(component) if family is Family.METRIC else None)
        if fault:
            raise PluginError(f"{family.hook} returned {fault}")
        if component.name in names:
            raise PluginError(f"{family.hook} returned {component.name} twice")
        names.add(component.name)
    return [(family, component) for component in components]


def _fault(component: Any) -> str | None:
    """What is wrong with a record that a hook returned, or None."""
    if not isinstance(component, Component):
        return f"{_short(component)}, which is no torchplug.Component"
    if not isinstance(component.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", component.name):
        return f"the name {_short(component.name)}: use lower-case letters, digits and underscores, a letter first"
    if not isinstance(component.target, str) or not _is_target(component.target):
        return f"{component.name} with the target {_short(component.target)}, which is no package.module:Class"
    if not isinstance(component.summary, str) or not component.summary.strip() or "\n" in component.summary:
        return f"{component.name} with a summary that is not one line"
    if not isinstance(component.capabilities, frozenset) or not all(
        isinstance(need, Capability) for need in component.capabilities
    ):
        return f"{component.name} with capabilities that are no frozenset of torchplug.Capability"
    if component.groups is not None and not (isinstance(component.groups, str) and _is_target(component.groups)):
        return f"{component.name} with the groups {_short(component.groups)}, which is no package.module:function"
    if component.interval not in (None, "epoch", "step"):
        return f"{component.name} with the interval {_short(component.interval)}, which is neither epoch nor step"
    if component.monitor is not None and not isinstance(component.monitor, str):
        return f"{component.name} with the monitor {_short(component.monitor)}, which is no metric's name"
    return None


def _metric_fault(component: Component) -> str | None:
    """What is wrong with a metric's record beyond that of any component, or None."""
    if not isinstance(component, Metric):
        return f"{component.name}, which is no torchplug.Metric"
    if component.name in _TAKEN:
        return f"the name {component.name}, under which the loss itself is logged"
    kinds = component.kinds
    if not isinstance(kinds, frozenset) or not kinds or not kinds <= set(get_args(Kind)):
        return f"{component.name} with kinds that are no frozenset of {', '.join(get_args(Kind))}"
    for what, known in (("view", get_args(View)), ("direction", get_args(Direction))):
        if (value := getattr(component, what)) not in known:
            return f"{component.name} with the {what} {_short(value)}, which is none of {', '.join(known)}"
    return None


def _is_target(text: str) -> bool:
    module, colon, attribute = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")])


def _short(value: Any) -> str:
    """An unchecked value as text for a message of one line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_repetition(plugin: Plugin, offered: set[tuple[str, Family, str]]) -> Plugin:
    """Mark a second entry point as broken if it repeats a name of its own distribution."""
    for family, component in plugin.components:
        if (plugin.distribution, family, component.name) in offered:
            error = f"another entry point of {plugin.distribution} already offers the {family.value} {component.name}"
            return replace(plugin, status="broken", components=(), error=error, note=None)
    return plugin


def _refuse_trouble(plugins: Iterable[Plugin]) -> None:
    for plugin in plugins:
        if plugin.status in ("broken", "missing"):
            raise PluginError(str(plugin.trouble))
        if plugin.note:
            raise PluginError(f"{plugin.distribution} {plugin.version} {plugin.note}")
