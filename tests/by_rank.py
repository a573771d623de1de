"""Start a recipe whose ranks differ: `by_rank.py RECIPE.py ARGUMENTS --on RANK MORE`, where one rank alone gets MORE.

Of MORE, `path=FOLDER` puts a folder of packages first, and `fault=NAME` makes that rank fail when its third epoch ends.
"""

import os
import runpy
import sys

from lightning.pytorch.strategies.launchers import subprocess_script

import torchplug.module
from torchplug.errors import TrainingError
from torchplug.recipe import reports_errors  # noqa: F401 - names this script as a recipe: signals are handled as in one


def fail(name):
    def at_epoch_end(module, before=torchplug.module.ComponentModule.on_train_epoch_end):
        if module.current_epoch == 2:
            if name == "defect":
                raise ZeroDivisionError("a defect of a plugin")
            if name == "stopped":
                raise TrainingError("it cannot go on")
            os._exit(int(name))
        return before(module)

    torchplug.module.ComponentModule.on_train_epoch_end = at_epoch_end


def main():
    given = list(sys.argv)
    recipe, *arguments = given[1:]
    at = arguments.index("--on")
    chosen = arguments[:at]
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == arguments[at + 1]:
        for argument in arguments[at + 2 :]:
            kind, _, value = argument.partition("=")
            if kind == "path":
                sys.path.insert(0, value)
            elif kind == "fault":
                fail(value)
            else:
                chosen.append(argument)
    sys.argv = [recipe, *chosen]
    # Lightning starts the other ranks by sys.argv: they must come here as well
    subprocess_script._basic_subprocess_cmd = lambda: [sys.executable, os.path.abspath(given[0]), *given[1:]]
    runpy.run_path(recipe, run_name="__main__")


if __name__ == "__main__":
    main()
