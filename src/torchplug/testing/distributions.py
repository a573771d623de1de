"""Installed distributions that are made for a test."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from torchplug.registry import registry


class Distributions:
    """Real little distributions in one folder: modules, and `*.dist-info` that advertises them.

    Modules live until the test ends; two distributions of one test need different module names.

    Args:
        folder: an empty folder on `sys.path`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, source: str, *, version: str = "1.0", module: str | None = None) -> str:
        """Install a distribution whose plugin module has this source; the module's name is returned."""
        module = module or f"{name.replace('-', '_').lower()}_plugin"
        self.module(module, source)
        self.metadata(name, version=version, entry_points=f"[torchplug]\n{name} = {module}\n")
        return module

    def offer(self, name: str, *offers: tuple[str, str, str], version: str = "1.0") -> str:
        """Install a distribution offering components, given as (plural of the family, name, target)."""
        lines = ["from torchplug import Component, hookimpl"]
        for plural in dict.fromkeys(plural for plural, _, _ in offers):
            components = [f"Component({n!r}, {target!r}, 'the {n}')" for p, n, target in offers if p == plural]
            lines += ["@hookimpl", f"def torchplug_{plural}():", f"    return [{', '.join(components)}]"]
        return self.add(name, "\n".join(lines), version=version)

    def module(self, module: str, source: str) -> None:
        """Write an importable module."""
        (self.folder / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        importlib.invalidate_caches()

    def metadata(self, name: str, *, version: str = "1.0", entry_points: str = "", folder: Path | None = None) -> None:
        """Write what pip leaves of a distribution."""
        info = (folder or self.folder) / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        importlib.invalidate_caches()

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python in a process of its own that sees these distributions."""
        inherited = {key: value for key, value in os.environ.items() if key != "TORCHPLUG_PLUGINS"}
        path = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.run(
            [sys.executable, *arguments],
            env={**inherited, "PYTHONPATH": path, "PYTHONUTF8": "1", **environment},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )


def forget(folder: Path) -> None:
    """Make the registry forget the distributions of a folder, and unload the modules below it."""
    registry.cache_clear()
    importlib.invalidate_caches()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
