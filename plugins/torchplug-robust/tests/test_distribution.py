"""What makes it a third party's plugin: its entry point, and the public names it stands on."""

import ast
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import torchplug
import torchplug_robust

SOURCES = sorted(Path(torchplug_robust.__file__).parent.glob("*.py"))


def test_the_distribution_advertises_the_plugin():
    (entry,) = [e for e in entry_points(group="torchplug") if e.dist is not None and e.dist.name == "torchplug-robust"]
    assert entry.load() is torchplug_robust


def test_only_public_names_of_torchplug_are_imported():
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torchplug":
                assert node.module == "torchplug"
                found.update(name.name for name in node.names)
            if isinstance(node, ast.Import):
                assert not any(name.name.startswith("torchplug.") for name in node.names)
    assert found <= set(torchplug.__all__)


def test_listing_its_components_imports_no_torch():
    code = "import sys, torchplug_robust as p; p.torchplug_losses(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
