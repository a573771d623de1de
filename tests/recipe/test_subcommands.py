"""Subcommands that are Python functions too have their parameters as options, with the same defaults."""

import inspect

import pytest

import torchplug
from torchplug.recipe.subcommands import SUBCOMMANDS

_GROUPS = {"config", "data", "trainer", "tracking", "name", "root", "seed"}
"""Parameters that are groups of settings on the command line, or follow from the recipe."""
_OTHERS = {"fit", "compare", "validate"}
"""Commands that began as commands."""
_INSTEAD = {"export_wandb"}
"""Options that write a file instead of calling the function."""
_ONLY_PYTHON = {"module"}
"""Parameters for which a command line has a checkpoint."""
METHODS = [name for name in SUBCOMMANDS if name in torchplug.__all__ and name not in _OTHERS]


@pytest.mark.parametrize("name", METHODS)
def test_options_are_the_parameters_of_the_function(name):
    parameters = inspect.signature(getattr(torchplug, name)).parameters
    left_out = {*_GROUPS, *_ONLY_PYTHON, SUBCOMMANDS[name].words}
    own = {key: parameter.default for key, parameter in parameters.items() if key not in left_out}
    taken = {key: option.default for key, option in SUBCOMMANDS[name].options.items()}
    options = {key: default for key, default in taken.items() if key not in (*_INSTEAD, SUBCOMMANDS[name].words)}
    assert options == own


def test_there_are_such_subcommands():
    assert {"cross_validate", "search"} <= set(METHODS)
