"""Discovery: which plugins are installed, their components, and their errors.

With the markers in `hookspecs` this is the only code that imports pluggy. Entry points are loaded one
by one, because pluggy's own loader stops the host at the first broken plugin. An installed plugin is
trusted code: errors are caught here, but this is no sandbox.
"""

from __future__ import annotations

import difflib
import inspect
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint
from typing import Any, Literal

import pluggy

from torchplug.errors import PluginError
from torchplug.registry import hookspecs
from torchplug.registry.component import Component, Family
from torchplug.registry.foreign_code import foreign_code, guarded, one_line
from torchplug.registry.installed import GROUP, advertisers, version_of
from torchplug.registry.permissions import BUILTIN, Permissions
from torchplug.registry.records import checked_records

SLOW_SECONDS = 1.0
"""Bound on the time of import and hooks together, because every command waits for them."""

Status = Literal["loaded", "blocked", "broken", "missing"]
Offer = tuple[Family, Component]

_HOOKS = tuple(family.hook for family in Family)


@dataclass(frozen=True)
class Plugin:
    """The result of loading one entry point: the provenance of its components.

    Args:
        distribution: the normalised name of the distribution (PEP 503).
        version: its version; empty if the distribution is missing.
        status: `loaded`; `blocked` by a list, and not imported; `broken`, see `error`;
            or `missing`, named by the allow-list but not installed.
        entry_point: the module that it names.
        hooks: the hooks that it implements.
        components: the components that they returned, each with its family.
        error: why it is broken, in one line.
        note: what its author should fix although it loaded, in one line.
        seconds: wall time of import and hooks.
        changed: the global state that import and hooks changed, and that was restored.
        listed: where the list stands that blocks it, or that names it although it is missing.
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
    changed: tuple[str, ...] = ()
    listed: str = ""

    @property
    def trouble(self) -> str | None:
        """Why its components are unavailable, in one line; None for a plugin that loaded."""
        if self.status == "loaded":
            return None
        if self.status == "blocked":
            return f"{self.distribution} {self.version} is blocked by {self.listed}"
        if self.status == "missing":
            return f"{self.distribution} is named by {self.listed} but is no installed plugin"
        return f"{self.distribution} {self.version} is broken: {self.error}"


def discover(*, strict: bool = False) -> tuple[Plugin, ...]:
    """Load all allowed plugins, sorted by distribution; a failure of one does not affect the others.

    Args:
        strict: raise an error for broken, missing or slow plugins, for a plugin's own tests.

    Raises:
        PluginError: only if `strict`, naming the first such plugin.
    """
    permissions = Permissions.current()
    found: list[Plugin] = []
    offered: set[tuple[str, Family, str]] = set()
    for name, distribution in sorted(advertisers().items()):
        for plugin in _load_all(name, distribution, permissions.refusal(name)):
            checked = _refuse_repetition(plugin, offered)
            offered.update((name, family, component.name) for family, component in checked.components)
            found.append(checked)
    missing = permissions.missing(plugin.distribution for plugin in found)
    found += [Plugin(name, "", "missing", listed=origin) for name, origin in missing.items()]
    if strict:
        _refuse_trouble(found)
    return tuple(found)


def _load_all(name: str, distribution: Distribution, blocked_by: str | None) -> Iterator[Plugin]:
    version = version_of(distribution)
    try:
        entry_points = sorted(distribution.entry_points.select(group=GROUP))
    except Exception as error:
        why = one_line(error) if isinstance(error, OSError | ValueError) else "a line has not the form name = module"
        yield Plugin(name, version, "broken", error=f"its entry_points.txt cannot be read: {why}")
        return
    for entry_point in entry_points:
        if blocked_by is None:
            yield _load(Plugin(name, version, "loaded", entry_point.value), entry_point)
        else:
            yield Plugin(name, version, "blocked", entry_point.value, listed=blocked_by)


def _load(plugin: Plugin, entry_point: EntryPoint) -> Plugin:
    """Import a plugin and call its hooks, recording time, errors, and what they changed."""
    started = time.perf_counter()
    if plugin.distribution == BUILTIN:
        loaded, changed = _loaded(plugin, entry_point), []
    else:
        with foreign_code(plugin.distribution, plugin.version, entry_point.value) as changed:
            loaded = _loaded(plugin, entry_point)
    loaded = replace(loaded, seconds=time.perf_counter() - started, changed=tuple(changed))
    return replace(loaded, note=_note(loaded))


def _loaded(plugin: Plugin, entry_point: EntryPoint) -> Plugin:
    try:
        with guarded(f"import of {entry_point.value} failed"):
            module = entry_point.load()
        with guarded("its hooks cannot be registered"):
            manager = _manager(module)
        plugin = replace(plugin, hooks=tuple(hook for hook in _HOOKS if _implemented(manager, hook)))
        offers: list[Offer] = []
        for family in Family:
            with guarded(f"{family.hook} failed"):
                offers += _offers(manager, family)
        return replace(plugin, components=tuple(offers))
    except PluginError as error:
        return replace(plugin, status="broken", error=str(error))


def _note(plugin: Plugin) -> str | None:
    """What a plugin's author should mend: slow imports, and changed global state."""
    notes = []
    if plugin.status == "loaded" and plugin.seconds > SLOW_SECONDS:
        where = f"import heavy modules in targets, not in {plugin.entry_point}"
        notes.append(f"took {plugin.seconds:.1f} s to load: {where}")
    if plugin.changed:
        notes.append(f"changed {', '.join(plugin.changed)} while it was loaded, which has been restored")
    return "; ".join(notes) or None


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
    return [(family, component) for component in checked_records(family.hook, family, results[0])]


def _refuse_repetition(plugin: Plugin, offered: set[tuple[str, Family, str]]) -> Plugin:
    """Mark a second entry point as broken if it repeats a name of its own distribution."""
    for family, component in plugin.components:
        if (plugin.distribution, family, component.name) in offered:
            error = f"its entry point {plugin.entry_point} repeats the {family.value} {component.name} of another"
            return replace(plugin, status="broken", components=(), error=error, note=None)
    return plugin


def _refuse_trouble(plugins: Iterable[Plugin]) -> None:
    for plugin in plugins:
        if plugin.status in ("broken", "missing"):
            raise PluginError(str(plugin.trouble))
        if plugin.note:
            raise PluginError(f"{plugin.distribution} {plugin.version} {plugin.note}")
