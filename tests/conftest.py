"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recipe_calls import call
from torchplug.testing.pytest_plugin import torchplug_distributions as distributions  # noqa: F401 a fixture

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a job in a shell's background ignores it, and so would the tests
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Put the environment back: what a recipe sets for its ranks is inherited by the processes of later tests."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


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
