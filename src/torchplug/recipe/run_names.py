"""Runs as users name them."""

from __future__ import annotations

from pathlib import Path

from torchplug.errors import ConfigurationError
from torchplug.recipe.paths import refuse_impossible
from torchplug.tracking.run import Run, runs


def run_named(text: str, recipe: str) -> Run:
    """Return the run in a directory, or for `last` the newest of a recipe.

    Args:
        text: a directory, or `last`. (A directory called `last` is `./last`.)
        recipe: the recipe's name.

    Raises:
        ConfigurationError: if there is none.
    """
    if text != "last":
        refuse_impossible("a run", text)
        return Run.open(text)
    found = runs(Path("runs") / recipe)
    if not found:
        raise ConfigurationError(f"there is no run in runs/{recipe} yet: fit first, or name a run directory")
    return found[-1]
