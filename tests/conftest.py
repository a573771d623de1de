"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recipe_calls import call
from torchplug.registry import registry


class Distributions:
    """Real little distributions in one folder: modules, and `*.dist-info` that advertises them.

    Modules live until the test ends; two distributions of one test need different module names.
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
        path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")]))
        return subprocess.run(
            [sys.executable, *arguments],
            env={**inherited, "PYTHONPATH": path, "PYTHONUTF8": "1", **environment},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Put the environment back: what a recipe sets for its ranks is inherited by the processes of later tests."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distributions]:
    """A folder for distributions, first on `sys.path`; the registry forgets them afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.delenv("TORCHPLUG_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(folder))
    registry.cache_clear()
    yield Distributions(folder)
    registry.cache_clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu`, or `gpu(count)`, where there are fewer CUDA devices, and say so."""
    marked = [(item, marker) for item in items if (marker := item.get_closest_marker("gpu"))]
    if not marked:
        return
    import torch

    there = torch.cuda.device_count()
    for item, marker in marked:
        wanted = marker.args[0] if marker.args else 1
        if there < wanted:
            item.add_marker(
                pytest.mark.skip(reason=f"needs {wanted} CUDA device(s), torch {torch.__version__} sees {there}")
            )


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a recipe's command line in an empty directory: exit status, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def ran(line: list[str], recipe: str = "linear_regression") -> tuple[int, str, str]:
        return call(capsys, line, recipe)

    return ran
