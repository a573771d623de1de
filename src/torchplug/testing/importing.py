"""Checks of how a component is imported, in processes of their own: in this one it may have been imported before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

from torchplug.registry import registry
from torchplug.registry.component import Family
from torchplug.testing.record import NotRun, check, require
from torchplug.testing.subject import Subject

_EVERY = tuple(Family)
_PATIENCE = 120.0
"""Seconds after which an import is taken to hang."""

_TORCH = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps("torch" in sys.modules), file=sys.__stdout__)
"""
_GLOBAL_STATE = """
import importlib, json, sys
from torchplug.registry.global_state import preserved
import torchplug.module  # what a recipe has imported by then is no component's doing
found = {}
for name in sys.argv[1:]:
    with preserved() as found[name]:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit):
            pass
print(json.dumps(found), file=sys.__stdout__)
"""


@check(*_EVERY)
def listing_imports_no_torch(subject: Subject) -> None:
    """The distribution's plugin modules import no torch, so that listing components stays fast."""
    for module in _plugin_modules(subject.entry.distribution):
        require(
            not _answer(_TORCH, module),
            f"importing {module} imports torch, so that every command waits for it: name targets by text, "
            "'package.module:Class', and import torch in their modules only",
        )


@check(*_EVERY, costly=True)
def importing_changes_no_global_state(subject: Subject) -> None:
    """Importing its modules changes no seed, default of torch, warning filter, environment variable or the like."""
    distribution = subject.entry.distribution
    targets = sorted({_module(entry) for entry in registry().entries() if entry.distribution == distribution})
    plugins = _plugin_modules(distribution)
    changes = _answer(_GLOBAL_STATE, *plugins, *targets)
    for module in (*plugins, _module(subject.entry)):
        changed = ", ".join(changes[module])
        require(not changed, f"importing {module} changes {changed}, which the whole process shares: leave it out")


def _plugin_modules(distribution: str) -> list[str]:
    plugins = [plugin for plugin in registry().plugins if plugin.distribution == distribution]
    return [plugin.entry_point.partition(":")[0] for plugin in plugins]


def _module(entry: Any) -> str:
    return str(entry.component.target.partition(":")[0])


def _answer(code: str, *modules: str) -> Any:
    """What code says of modules in another process.

    Raises:
        NotRun: if it says nothing.
    """
    said = _said(code, modules)
    if said is None:
        raise NotRun(f"{', '.join(modules)} cannot be imported in another process")
    return said


@cache
def _said(code: str, modules: tuple[str, ...]) -> Any:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *modules], env=environment, capture_output=True, timeout=_PATIENCE, check=False
        )
        return json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return None
