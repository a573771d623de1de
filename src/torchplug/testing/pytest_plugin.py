"""Fixtures for the tests of plugins. pytest imports this in every environment: what takes time is imported late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torchplug import ComponentModule
    from torchplug.testing.distributions import Distributions


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark of costly checks."""
    config.addinivalue_line("markers", "slow: takes seconds; `-m 'not slow'` leaves it out")


@pytest.fixture
def torchplug_fit() -> Any:
    """Train components on a small table: `torchplug_fit(loss="my-losses:huber")` returns the trained module.

    The parameters are those of `torchplug.testing.fits.small_fit`.
    """
    from torchplug.testing.fits import small_fit

    def fit(**components: Any) -> ComponentModule:
        return small_fit(**components)

    return fit


@pytest.fixture
def torchplug_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distributions]:
    """A folder for installed distributions that are made for a test, see `torchplug.testing.distributions`."""
    from torchplug.registry.permissions import ALLOW_LIST, BLOCK_LIST
    from torchplug.testing.distributions import Distributions, forget

    folder = tmp_path / "site"
    folder.mkdir()
    for variable in (ALLOW_LIST, BLOCK_LIST):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    forget(tmp_path)
    yield Distributions(folder)
    forget(tmp_path)
