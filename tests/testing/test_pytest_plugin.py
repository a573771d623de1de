"""The fixtures, as the tests of a plugin see them."""

import os
import subprocess
import sys

TESTS = '''
import sys

import pytest


def test_nothing_is_imported_before_it_is_used():
    assert "torch" not in sys.modules


@pytest.mark.slow
def test_a_small_fit(torchplug_distributions, torchplug_fit):
    torchplug_distributions.module("parts", """
        from torchplug import Loss

        class Mine(Loss):
            kind = "count"

            def forward(self, scores, target):
                return (scores.exp() - target * scores).sum(1)
    """)
    torchplug_distributions.offer("acme", ("losses", "mine", "parts:Mine"))
    module = torchplug_fit(loss="mine", epochs=1)
    assert module.components[1].qualified_name == "acme:mine"


def test_the_registry_has_forgotten_it():
    from torchplug.registry import registry
    assert not [plugin for plugin in registry().plugins if plugin.distribution == "acme"]
'''


def test_fixtures(tmp_path):
    (tmp_path / "test_mine.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "torchplug.testing.pytest_plugin", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
