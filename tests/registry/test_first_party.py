"""What makes a first-party distribution a third party's plugin: its entry point, and the public names it stands on."""

import ast
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import torchplug

PUBLIC_ONLY = {"torchplug-robust": "torchplug_robust", "torchplug-tabular": "torchplug_tabular"}


@pytest.mark.parametrize(("distribution", "package"), PUBLIC_ONLY.items())
class TestPlugin:
    def test_the_distribution_advertises_it(self, distribution, package):
        (entry,) = [e for e in entry_points(group="torchplug") if e.dist is not None and e.dist.name == distribution]
        assert entry.load() is import_module(package)

    def test_only_public_names_of_torchplug_are_imported(self, distribution, package):
        found = set()
        for source in Path(import_module(package).__file__).parent.glob("*.py"):
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torchplug":
                    assert node.module == "torchplug"
                    found.update(name.name for name in node.names)
                if isinstance(node, ast.Import):
                    assert not any(name.name.startswith("torchplug.") for name in node.names)
        assert found
        assert found <= set(torchplug.__all__)

    def test_listing_its_components_imports_no_torch(self, distribution, package):
        code = (
            f"import sys, {package} as p; [getattr(p, n)() for n in dir(p) if n.startswith('torchplug_') and "
            "callable(getattr(p, n))]; sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
