"""Recipes called in this process, which is far faster than starting them."""

import importlib.util
from pathlib import Path

RECIPES = Path(__file__).parents[1] / "recipes"


def load(name):
    """A recipe as a module, as importing it would give it; recipes are scripts outside any package."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def caller(capsys):
    """A function that runs a recipe's command line: exit status, output, errors."""

    def called(line, recipe="linear_regression"):
        capsys.readouterr()
        try:
            status = load(recipe).main(line)
        except SystemExit as exit:
            status = exit.code
        output = capsys.readouterr()
        return status, output.out, output.err

    return called
